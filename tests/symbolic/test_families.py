"""Every family as a variable: drawn, scored, learned, observed in rows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from brancher import symbolic
from brancher.handlers import trace
from brancher.symbolic import ProbabilisticModel
from brancher.symbolic.families import FAMILIES
from brancher.symbolic.paths import with_paths
from brancher.symbolic.program import Program
from brancher.symbolic.variables import VARIABLES

REGISTRY = Path(__file__).parents[1] / "distributions"


class Entry(NamedTuple):
    family: str
    args: dict[str, Any]
    scipy: Any


def entries() -> list[Entry]:
    """The sets of arguments of the distributions' own contract tests, without those built by hand."""
    found: list[Entry] = []

    def case(family: type, *args: dict[str, Any], **options: Any) -> Any:
        if options.get("build") is None and family.__name__ in FAMILIES:
            found.extend(Entry(family.__name__, each, options.get("scipy")) for each in args)

    for name in ("registry", "registry_own"):
        spec = importlib.util.spec_from_file_location(name, REGISTRY / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.cases(case)
    return [entry for entry in found if not any(isinstance(v, bool) for v in entry.args.values())]


ENTRIES = entries()
IDS = [f"{entry.family}-{i}" for i, entry in enumerate(ENTRIES)]


def variable(entry: Entry, **options: Any) -> Any:
    return VARIABLES[f"{entry.family}Variable"](**entry.args, name="x", **options)


def draw(entry: Entry, count: int) -> torch.Tensor:
    return ProbabilisticModel([variable(entry)])._get_sample(count)["x"]


def exact(entry: Entry) -> Any:
    """The family's own law of these arguments, as one event."""
    arguments = {
        key: torch.as_tensor(np.array(value), dtype=torch.get_default_dtype())
        if isinstance(value, (float, list))
        else value
        for key, value in entry.args.items()
    }
    return FAMILIES[entry.family].distribution(**arguments).to_event(None)


def test_most_families_have_arguments_here() -> None:
    assert {entry.family for entry in ENTRIES} >= set(FAMILIES) - {"Multinomial"}


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_scored_as_the_family_says(entry: Entry) -> None:
    values = draw(entry, 3)[:, 0]
    law = exact(entry)
    values = values.reshape((3, *law.event_shape))
    model = ProbabilisticModel([variable(entry)])
    found = model.calculate_log_probability({"x": values})
    torch.testing.assert_close(found, law.log_prob(values).to(found.dtype), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_observed_rows_add_up(entry: Entry) -> None:
    law = exact(entry)
    rows = draw(entry, 4)[:, 0].reshape((4, *law.event_shape))
    x = variable(entry)
    x.observe(rows)
    found = ProbabilisticModel([x]).calculate_log_probability()
    assert found == pytest.approx(float(law.log_prob(rows).sum()), rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_learned_arguments_start_where_they_were_given(entry: Entry) -> None:
    x = variable(entry, learnable=True)
    family = FAMILIES[entry.family]
    for key, value in entry.args.items():
        argument = family.argument(key)
        assert argument is not None
        if value is None or not argument.is_learnable:
            continue
        expected = torch.tensor(value, dtype=torch.get_default_dtype())
        torch.testing.assert_close(x.parameters[argument.name], expected, rtol=1e-4, atol=1e-4)
    record = trace(ProbabilisticModel([x])).get_trace()
    assert len(record.param_nodes) == len(x.parameters)


def test_every_family_is_exported() -> None:
    assert all(getattr(symbolic, name) is made for name, made in VARIABLES.items())


@pytest.mark.parametrize("value", [1e-3, 1.0, 1000.0])
def test_positive_values_are_learned_from_any_size(value: float) -> None:
    x = symbolic.HalfNormalVariable(value, "x", learnable=True)
    assert float(x.parameters["scale"]) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_density_along_draws(entry: Entry) -> None:
    """As a posterior: the same draw and density; learned values get gradients through the draw alone."""
    learned = variable(entry, learnable=True)
    program = Program([learned], is_posterior=True)
    torch.manual_seed(0)
    plain = trace(program).get_trace().nodes["x"]
    torch.manual_seed(0)
    site = trace(with_paths(program)).get_trace().nodes["x"]
    torch.testing.assert_close(site.value, plain.value)
    expected = plain.fn.log_prob(plain.value)
    torch.testing.assert_close(site.fn.log_prob(site.value), expected)
    if plain.fn.has_rsample:
        assert not site.fn.log_prob(site.value.detach()).requires_grad
