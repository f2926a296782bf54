"""Torch modules whose attributes are random variables and constrained parameters."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.distributions.flows import (
    AutoRegressiveNN,
    ConditionalAutoRegressiveNN,
    ConditionalDenseNN,
    DenseNN,
    MaskedLinear,
)
from brancher.nn.attributes import PyroParam, PyroSample
from brancher.nn.module import PyroModule, PyroModuleList, pyro_method, to_pyro_module_

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "AutoRegressiveNN",
    "ConditionalAutoRegressiveNN",
    "ConditionalDenseNN",
    "DenseNN",
    "MaskedLinear",
    "PyroModule",
    "PyroModuleList",
    "PyroParam",
    "PyroSample",
    "pyro_method",
    "to_pyro_module_",
]
