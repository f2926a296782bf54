"""Dependencies: by hand, and against the entries of the posterior's precision matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from brancher import deterministic, factor, handlers, plate, sample
from brancher import distributions as dist
from brancher.errors import HandlerTypeError
from brancher.infer import get_dependencies
from brancher.symbolic import NormalVariable, ProbabilisticModel

ZERO = torch.tensor(0.0)


def chain() -> None:
    a = sample("a", dist.Normal(0.0, 1.0))
    sample("b", dist.Normal(a, 1.0), obs=ZERO)


def collider() -> None:
    a = sample("a", dist.Normal(0.0, 1.0))
    b = sample("b", dist.LogNormal(0.0, 1.0))
    c = sample("c", dist.Normal(a, b))
    sample("d", dist.Normal(c, 1.0), obs=ZERO)


def summed() -> None:
    with plate("p", 5):
        a = sample("a", dist.Normal(0.0, 1.0))
    sample("b", dist.Normal(a.sum(-1), 1.0), obs=ZERO)


def rows() -> None:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("p", 3):
        z = sample("z", dist.Normal(mu, 1.0))
        w = sample("w", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(z + w, 1.0), obs=torch.zeros(3))


def crossed() -> None:
    with plate("p", 2, dim=-1):
        a = sample("a", dist.Normal(0.0, 1.0))
        b = sample("b", dist.Normal(a, 1.0))
    with plate("q", 3, dim=-2):
        c = sample("c", dist.Normal(0.0, 1.0))
        with plate("p", 2, dim=-1):
            sample("x", dist.Normal(b + c, 1.0), obs=torch.zeros(3, 2))
        sample("y", dist.Normal(c + b.sum(-1, keepdim=True), 1.0), obs=torch.zeros(3, 1))


def scored() -> None:
    a = sample("a", dist.Normal(0.0, 1.0))
    b = sample("b", dist.Normal(0.0, 1.0))
    factor("f", -((a - b) ** 2))


def test_chain() -> None:
    assert get_dependencies(chain) == {
        "prior_dependencies": {"a": {"a": set()}, "b": {"a": set(), "b": set()}},
        "posterior_dependencies": {"a": {"a": set(), "b": set()}},
    }


def test_parents_of_one_child_meet() -> None:
    assert get_dependencies(collider) == {
        "prior_dependencies": {
            "a": {"a": set()},
            "b": {"b": set()},
            "c": {"a": set(), "b": set(), "c": set()},
            "d": {"c": set(), "d": set()},
        },
        "posterior_dependencies": {
            "a": {"a": set(), "b": set(), "c": set()},
            "b": {"b": set(), "c": set()},
            "c": {"c": set(), "d": set()},
        },
    }


def test_rows_meet_in_a_site_outside_their_plate() -> None:
    assert get_dependencies(summed)["posterior_dependencies"] == {"a": {"a": {"p"}, "b": set()}}


def test_rows_stay_apart_inside_their_plate() -> None:
    found = get_dependencies(rows)["posterior_dependencies"]
    assert found["z"] == {"z": set(), "w": set(), "y": set()}
    assert found["mu"] == {"mu": set(), "z": set()}


def test_deterministic_sites_and_points_are_looked_through() -> None:
    def model() -> None:
        a = sample("a", dist.Normal(0.0, 1.0))
        b = deterministic("b", a + 1.0)
        c = sample("c", dist.Delta(2.0 * b))
        sample("d", dist.Normal(c, 1.0))

    assert get_dependencies(model)["prior_dependencies"] == {"a": {"a": set()}, "d": {"a": set(), "d": set()}}
    shown = get_dependencies(model, include_deterministic=True)["prior_dependencies"]
    assert shown == {"a": {"a": set()}, "b": {"a": set(), "b": set()}, "d": {"b": set(), "d": set()}}


def test_observations_that_do_not_count_are_left_out() -> None:
    def model() -> None:
        a = sample("a", dist.Normal(0.0, 1.0))
        with handlers.mask(mask=False):
            sample("b", dist.Normal(a, 1.0), obs=ZERO)

    assert list(get_dependencies(model)["prior_dependencies"]) == ["a"]


def precision(model: Callable[[], None]) -> tuple[torch.Tensor, list[tuple[str, int]]]:
    """Minus the Hessian of the joint log-density in all entries of the latent sites, and whose they are."""
    record = handlers.trace(model).get_trace()
    names = record.stochastic_nodes
    shapes = [record[name].value.shape for name in names]
    owners = [(name, i) for name, shape in zip(names, shapes, strict=True) for i in range(shape.numel())]

    def density(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        values = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return handlers.trace(handlers.condition(model, values)).get_trace().log_prob_sum()

    start = torch.cat([record[name].value.reshape(-1) for name in names])
    return -torch.autograd.functional.hessian(density, start), owners


@pytest.mark.parametrize("model", [chain, summed, rows, crossed, scored], ids=lambda m: m.__name__)
def test_posterior_dependencies_are_the_entries_of_the_precision(model: Callable[[], None]) -> None:
    found = get_dependencies(model)["posterior_dependencies"]
    matrix, owners = precision(model)
    actual: dict[str, dict[str, bool]] = {}
    for i, (early, _) in enumerate(owners):
        for j, (late, _) in enumerate(owners):
            if list(found).index(late) >= list(found).index(early) and matrix[i, j].abs() > 1e-6:
                entry = actual.setdefault(early, {}).setdefault(late, False)
                # Rows of one site that meet are told by its plates.
                actual[early][late] = entry or (early == late and i != j)
    told = {a: {b: a == b and bool(p) for b, p in row.items() if b in found} for a, row in found.items()}
    assert told == actual


def test_arguments_and_random_state() -> None:
    def model(y: torch.Tensor, scale: float) -> None:
        sample("y", dist.Normal(sample("a", dist.Normal(0.0, 1.0)), scale), obs=y)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert list(get_dependencies(model, (ZERO,), {"scale": 1.0})["prior_dependencies"]) == ["a", "y"]
    assert torch.equal(before, torch.get_rng_state())


def test_algebraic_model() -> None:
    a = NormalVariable(0.0, 1.0, "a")
    b = NormalVariable(0.0, 1.0, "b")
    c = NormalVariable(a * b, 1.0, "c")
    c.observe(0.0)
    found: Any = get_dependencies(ProbabilisticModel([c]))["posterior_dependencies"]
    assert found == {"a": {"a": set(), "b": set(), "c": set()}, "b": {"b": set(), "c": set()}}


def test_no_function_error() -> None:
    with pytest.raises(
        HandlerTypeError, match="get_dependencies: expected a model as a function, got Tensor"
    ):
        get_dependencies(ZERO)  # type: ignore[arg-type]
