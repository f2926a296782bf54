"""Fixtures shared by the staging tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from brancher.staging import native


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small graphs gain nothing from threads, and the number of threads is part of the cache key."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def compiler() -> str:
    """Skip where this machine has no C++ compiler."""
    found = native.compiler()
    if found is None:
        pytest.skip("no C++ compiler")
    return found
