"""What a model is written with. Primitives ask; handlers answer."""

from brancher.primitives.deterministic import deterministic, factor
from brancher.primitives.markov import markov
from brancher.primitives.param import module, param
from brancher.primitives.plate import plate, plate_stack
from brancher.primitives.rng import set_rng_seed
from brancher.primitives.sample import sample
from brancher.primitives.subsample import subsample

__all__ = [
    "deterministic",
    "factor",
    "markov",
    "module",
    "param",
    "plate",
    "plate_stack",
    "sample",
    "set_rng_seed",
    "subsample",
]
