"""Registries of guides and models; the contract tests run every pair."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest
import torch

import brancher.distributions as dist
from brancher import plate, sample, subsample
from brancher.infer import autoguide

GUIDES = {
    "AutoDelta": autoguide.AutoDelta,
    "AutoNormal": autoguide.AutoNormal,
    "AutoDiagonalNormal": autoguide.AutoDiagonalNormal,
    "AutoMultivariateNormal": autoguide.AutoMultivariateNormal,
    "AutoLowRankMultivariateNormal": autoguide.AutoLowRankMultivariateNormal,
    "AutoLaplaceApproximation": autoguide.AutoLaplaceApproximation,
    "AutoIAFNormal": autoguide.AutoIAFNormal,
    "AutoStructured": autoguide.AutoStructured,
    "AutoNormalMessenger": autoguide.AutoNormalMessenger,
    "AutoHierarchicalNormalMessenger": autoguide.AutoHierarchicalNormalMessenger,
    "AutoRegressiveMessenger": autoguide.AutoRegressiveMessenger,
}


class Case(NamedTuple):
    """A model, its arguments, the shapes of a posterior draw by site, and how many rows of 8 a call has."""

    model: Any
    args: tuple[Any, ...]
    shapes: dict[str, tuple[int, ...]]
    rows: int = 8


def _scalars(y: torch.Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    sigma = sample("sigma", dist.HalfNormal(1.0))
    with plate("row", len(y)):
        sample("y", dist.Normal(mu, sigma), obs=y)


def _vectors(x: torch.Tensor, y: torch.Tensor) -> None:
    w = sample("w", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    m = sample("m", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    with plate("row", len(y)):
        sample("y", dist.Normal((x * w).sum(-1) + m.sum((-1, -2)), 1.0), obs=y)


def _nested(y: torch.Tensor) -> None:
    tau = sample("tau", dist.LogNormal(0.0, 1.0))
    with plate("column", 3, dim=-1):
        a = sample("a", dist.Normal(0.0, tau))
        with plate("row", 4, dim=-2):
            b = sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            sample("y", dist.Normal(a + b.sum(-1), 1.0), obs=y)
    with plate("row", 4, dim=-2):
        sample("c", dist.Gamma(2.0, 1.0))


def _supports() -> None:
    sample("simplex", dist.Dirichlet(torch.ones(3)))
    sample("positive", dist.Gamma(2.0, 1.0))
    sample("unit", dist.Beta(2.0, 3.0))
    sample("cholesky", dist.LKJCholesky(3, 1.0))
    ordered = sample(
        "ordered", dist.ImproperUniform(dist.constraints.ordered_vector, torch.Size(), torch.Size([4]))
    )
    sample("y", dist.Normal(ordered.sum(-1), 1.0), obs=torch.tensor(1.0))
    with plate("row", 2):
        sample("vectors", dist.Dirichlet(torch.ones(4)))


def _subsampled(data: torch.Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 8, subsample_size=3):
        batch = subsample(data, event_dim=0)
        z = sample("z", dist.Normal(mu, 1.0))
        sample("p", dist.Dirichlet(torch.ones(2)))
        sample("y", dist.Normal(z, 1.0), obs=batch)


def _given_rows(data: torch.Tensor, rows: torch.Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 8, subsample=rows):
        z = sample("z", dist.Normal(mu, 1.0))
        sample("y", dist.Normal(z, 1.0), obs=data)


def _bounded() -> None:
    a = sample("a", dist.Gamma(2.0, 1.0))
    b = sample("b", dist.Uniform(0.0, a))
    with plate("row", 3):
        c = sample("c", dist.Uniform(-1.0, b))
        sample("y", dist.Normal(c, 1.0), obs=torch.tensor([0.1, 0.2, 0.3]))


def _masked(data: torch.Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 3):
        sample("y", dist.Normal(mu, 1.0), obs=data, obs_mask=torch.tensor([True, False, True]))


MODELS = {
    "scalars": Case(_scalars, (torch.tensor([0.3, 1.0, -0.4]),), {"mu": (), "sigma": ()}),
    "vectors": Case(_vectors, (torch.ones(5, 2), torch.ones(5)), {"w": (2,), "m": (2, 3)}),
    "nested": Case(_nested, (torch.ones(4, 3),), {"tau": (), "a": (3,), "b": (4, 3, 2), "c": (4, 1)}),
    "supports": Case(
        _supports,
        (),
        {
            "simplex": (3,),
            "positive": (),
            "unit": (),
            "cholesky": (3, 3),
            "ordered": (4,),
            "vectors": (2, 4),
        },
    ),
    "subsampled": Case(_subsampled, (torch.ones(8),), {"mu": (), "z": (8,), "p": (8, 2)}, 3),
    "given rows": Case(_given_rows, (torch.ones(2), torch.tensor([5, 1])), {"mu": (), "z": (8,)}, 2),
    "bounded": Case(_bounded, (), {"a": (), "b": (), "c": (3,)}),
    "masked": Case(_masked, (torch.ones(3),), {"mu": (), "y_unobserved": (3,)}),
}


#: It draws from the priors, and one of these is improper.
OUT_OF_REACH = ("AutoRegressiveMessenger", "supports")
PAIRS = [pair for pair in itertools.product(GUIDES, MODELS) if pair != OUT_OF_REACH]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of guides and models on every pair that is within reach."""
    wants = {"make_guide", "case"} & set(metafunc.fixturenames)
    if len(wants) == 2:
        metafunc.parametrize(("make_guide", "case"), PAIRS, ids=map("-".join, PAIRS), indirect=True)
    for name in wants if len(wants) == 1 else ():
        metafunc.parametrize(name, list(GUIDES if name == "make_guide" else MODELS), indirect=True)


@pytest.fixture
def make_guide(request: pytest.FixtureRequest) -> Any:
    return GUIDES[request.param]


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return MODELS[request.param]
