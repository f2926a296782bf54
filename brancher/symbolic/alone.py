"""Running a program for what it shows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from brancher.distributions.validation import validation_enabled
from brancher.handlers import stack
from brancher.params import ParamStore
from brancher.staging import random_state_kept


@contextmanager
def alone() -> Iterator[None]:
    """Run a program unseen by handlers and stores, with no gradient, warning or trace in the random state."""
    with (
        stack.emptied(),
        random_state_kept(),
        torch.no_grad(),
        validation_enabled(False),
        ParamStore(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
