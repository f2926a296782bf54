"""Fixtures shared by the staging tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from brancher.staging import cache, compiled, stage
from brancher.staging.emitting import native
from brancher.staging.rewriting import early, periods
from brancher.staging.rewriting.loops import Loop, LoopCode


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


@pytest.fixture
def small_graphs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for loops in every graph, of few turns as well."""
    monkeypatch.setattr(early, "FEWEST_NODES", 0)
    monkeypatch.setattr(periods, "FEWEST_TURNS", 8)


@pytest.fixture
def loops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_graphs_too: None
) -> list[tuple[Loop, LoopCode | None]]:
    """The loops that are compiled, by a cache that knows nothing."""
    monkeypatch.setattr(cache, "directory", lambda: tmp_path)
    monkeypatch.setattr(cache, "scratch", lambda: tmp_path)
    monkeypatch.setenv("BRANCHER_PRECOMPILE_HEADERS", "0")
    found: list[tuple[Loop, LoopCode | None]] = []
    compile_loop = compiled._compile_loop

    def watched(loop: Loop) -> LoopCode | None:
        found.append((loop, compile_loop(loop)))
        return found[-1][1]

    monkeypatch.setattr(compiled, "_compile_loop", watched)
    return found


@pytest.fixture
def agree() -> Callable[..., None]:
    """Compares what a function gives compiled with what it gives, for the same random numbers."""

    def compare(function: Callable[..., Any], args: list[torch.Tensor], tolerance: float) -> None:
        torch.manual_seed(0)
        expected = function(*args)
        staged = stage(function)
        staged.plan(*args)
        torch.manual_seed(0)
        for got, want in zip(staged(*args), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)

    return compare
