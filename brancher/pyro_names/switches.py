"""Validation, random state and context managers, under Pyro's names."""

from __future__ import annotations

import random
import timeit
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from brancher.distributions.validation import enable_validation, validation_enabled
from brancher.distributions.validation import is_validating as is_validation_enabled
from brancher.primitives import set_rng_seed

__all__ = [
    "ExperimentalWarning",
    "enable_validation",
    "get_rng_state",
    "ignore_experimental_warning",
    "ignore_jit_warnings",
    "is_validation_enabled",
    "optional",
    "set_rng_seed",
    "set_rng_state",
    "timed",
    "validation_enabled",
]


class ExperimentalWarning(UserWarning):
    """Pyro's category for features under trial; nothing here issues it."""


def get_rng_state() -> dict[str, Any]:
    """The random state of torch, Python and numpy."""
    return {"torch": torch.get_rng_state(), "random": random.getstate(), "numpy": np.random.get_state()}


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what :func:`get_rng_state` gave."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["random"])
    np.random.set_state(state["numpy"])


def optional(context_manager: AbstractContextManager[Any], condition: Any) -> AbstractContextManager[Any]:
    """The context manager where the condition holds, one that does nothing elsewhere."""
    return context_manager if condition else nullcontext()


@contextmanager
def ignore_jit_warnings(filter: Any = None) -> Iterator[None]:
    """Ignore warnings, or those alone that match the messages given."""
    with warnings.catch_warnings():
        for entry in [""] if filter is None else filter:
            text, category = entry if isinstance(entry, tuple) else (entry, Warning)
            warnings.filterwarnings("ignore", category=category, message=text)
        yield


@contextmanager
def ignore_experimental_warning() -> Iterator[None]:
    """Ignore :class:`ExperimentalWarning`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=ExperimentalWarning)
        yield


class timed:  # noqa: N801
    """Measure the seconds of a block: ``with timed() as t: ...`` then ``t.elapsed``."""

    def __enter__(self) -> timed:
        self.start = timeit.default_timer()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.end = timeit.default_timer()
        self.elapsed = self.end - self.start
