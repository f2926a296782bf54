"""Functions of tensors that models and their users need, under Pyro's names."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.ops import indexing, stats

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = ["indexing", "stats"]
