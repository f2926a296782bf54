"""Probabilistic programming on PyTorch."""

from brancher import distributions, handlers, infer, params
from brancher.distributions.validation import enable_validation, validation_enabled
from brancher.handlers import condition, do
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
    "handlers",
    "infer",
    "markov",
    "module",
    "param",
    "params",
    "plate",
    "plate_stack",
    "sample",
    "set_rng_seed",
    "subsample",
    "validation_enabled",
]
