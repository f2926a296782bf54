"""Where guides start, under the path that Pyro programs import it from."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.infer.initialization import (
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "init_to_feasible",
    "init_to_generated",
    "init_to_mean",
    "init_to_median",
    "init_to_sample",
    "init_to_uniform",
    "init_to_value",
]
