"""What every test and every doctest finds: a fixed seed, parameters of its own, an empty handler stack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import brancher
from brancher import distributions, handlers, infer, optim, primitives
from brancher.distributions.validation import enable_validation, is_validating
from brancher.handlers import stack
from brancher.infer import autoguide
from brancher.params import ParamStore


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    with ParamStore():
        yield
    torch.set_default_dtype(dtype)
    assert stack.current() == (), "the test left a handler on the stack"
    was_validating = is_validating()
    enable_validation(True)
    assert was_validating, "the test left validation off"


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    """Let examples speak of the public names without importing them every time."""
    doctest_namespace.update(torch=torch, dist=distributions, handlers=handlers, optim=optim)
    # Later ones win where a name stands twice.
    for folder in (autoguide, infer, handlers, primitives, brancher):
        doctest_namespace.update({name: getattr(folder, name) for name in folder.__all__})
