"""Probabilistic programming on PyTorch."""

from typing import TYPE_CHECKING

from brancher import distributions, handlers, infer, nn, ops, optim, params, plots, poutine
from brancher.absent import refuse
from brancher.decorators import guide, model
from brancher.distributions.validation import enable_validation, validation_enabled
from brancher.handlers import condition, do
from brancher.infer import summary
from brancher.params import ParamStore, clear_param_store, get_param_store
from brancher.primitives import (
    deterministic,
    factor,
    markov,
    module,
    param,
    plate,
    plate_stack,
    sample,
    set_rng_seed,
    subsample,
)
from brancher.render import render_model

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__version__ = "0.1.0"

__all__ = [
    "ParamStore",
    "__version__",
    "clear_param_store",
    "condition",
    "deterministic",
    "distributions",
    "do",
    "enable_validation",
    "factor",
    "get_param_store",
    "guide",
    "handlers",
    "infer",
    "markov",
    "model",
    "module",
    "nn",
    "ops",
    "optim",
    "param",
    "params",
    "plate",
    "plate_stack",
    "plots",
    "poutine",
    "render_model",
    "sample",
    "set_rng_seed",
    "subsample",
    "summary",
    "validation_enabled",
]
