"""Torch modules whose attributes are random variables and constrained parameters."""

from brancher.nn.attributes import PyroParam, PyroSample
from brancher.nn.dense import DenseNN
from brancher.nn.module import PyroModule, PyroModuleList, pyro_method, to_pyro_module_

__all__ = [
    "DenseNN",
    "PyroModule",
    "PyroModuleList",
    "PyroParam",
    "PyroSample",
    "pyro_method",
    "to_pyro_module_",
]
