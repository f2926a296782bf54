"""What every test and every doctest finds: a fixed seed, parameters of its own, an empty handler stack."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest
import torch

# Later ones win where a name stands twice.
PUBLIC = (
    "brancher.infer.autoguide",
    "brancher.infer",
    "brancher.handlers",
    "brancher.primitives",
    "brancher",
)


def _part(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    params, stack = _part("brancher.params"), _part("brancher.handlers.stack")
    with params.ParamStore() if hasattr(params, "ParamStore") else nullcontext():
        yield
    torch.set_default_dtype(dtype)
    assert stack is None or stack.current() == (), "the test left a handler on the stack"


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    """Let examples speak of the public names without importing them every time."""
    doctest_namespace["torch"] = torch
    for name, short in (("distributions", "dist"), ("handlers", "handlers"), ("optim", "optim")):
        doctest_namespace[short] = _part(f"brancher.{name}")
    for folder in map(_part, PUBLIC):
        for name in getattr(folder, "__all__", ()):
            doctest_namespace[name] = getattr(folder, name)
