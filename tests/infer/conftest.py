"""Fixtures shared by the tests of inference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from brancher.staging import compiled
from brancher.staging.graph import purify


def run_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run graphs as they were recorded, operation by operation, without a compiler."""

    def interpret(traced: Any, tensors: Any, name: str) -> compiled.Compiled:
        pure = purify(traced, tensors)

        def run(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
            with torch.no_grad():
                return list(pure.graph(*[t.detach() for t in inputs]))

        return compiled.Compiled(run, pure.outputs, pure.writes, pure.changed, None, False)

    monkeypatch.setattr("brancher.staging.plan.compile_graph", interpret)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled steps run as recorded: that is where one can be recorded wrongly, and it is quick."""
    run_recorded(monkeypatch)


@pytest.fixture(params=["recorded", pytest.param("compiled", marks=pytest.mark.slow)])
def any_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As recorded; in the slow run through the compiler as well."""
    if request.param == "recorded":
        run_recorded(monkeypatch)


@pytest.fixture(params=["eager", "recorded", pytest.param("compiled", marks=pytest.mark.slow)])
def traces_of_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs that are eager, recorded, or in the slow run compiled, however short; how often one traces."""
    if request.param == "eager":
        return 0
    monkeypatch.setattr("brancher.infer.training.worth_compiling", lambda num_sites: 1)
    if request.param == "recorded":
        run_recorded(monkeypatch)
    return 1
