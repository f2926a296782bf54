"""Modules whose parameters are drawn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import brancher as pyro
import brancher.distributions as dist
from brancher import handlers, param, plate, sample
from brancher.distributions import constraints
from brancher.errors import ParamError
from brancher.infer import SVI, Trace_ELBO
from brancher.optim import Adam

X = torch.linspace(-1.0, 1.0, 20)[:, None]
Y = 2.0 * X[:, 0] + 0.5


def laws(loc: dict[str, torch.Tensor], scale: torch.Tensor) -> dict[str, dist.Distribution]:
    return {name: dist.Normal(at, scale).to_event(at.dim()) for name, at in loc.items()}


def test_network_with_random_weights_is_trained() -> None:
    net = nn.Linear(1, 1)
    shapes = {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}

    def model() -> None:
        drawn = pyro.random_module("net", net, laws(shapes, torch.tensor(3.0)))()
        with plate("row", 20):
            sample("y", dist.Normal(drawn(X).squeeze(-1), 0.1), obs=Y)

    def guide() -> nn.Module:
        loc = {name: param(f"loc_{name}", at) for name, at in shapes.items()}
        scale = param("scale", torch.tensor(0.1), constraint=constraints.positive)
        drawn: nn.Module = pyro.random_module("net", net, laws(loc, scale))()
        return drawn

    svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(300):
        svi.step()
    assert param("loc_weight").item() == pytest.approx(2.0, abs=0.2)
    assert param("loc_bias").item() == pytest.approx(0.5, abs=0.2)
    # What the guide gives back runs outside of it too.
    assert guide()(X).shape == (20, 1)


def test_parameters_without_a_prior_stay_parameters() -> None:
    net = nn.Linear(2, 1)
    draw = pyro.random_module(
        "net", net, lambda name: dist.Normal(torch.zeros(1), 1.0).to_event(1) if name == "bias" else None
    )
    record = handlers.trace(lambda: draw()(torch.ones(3, 2))).get_trace()
    assert record.stochastic_nodes == ["net.bias"] and record.param_nodes == ["net.weight"]


def test_prior_of_an_unknown_parameter_error() -> None:
    with pytest.raises(ParamError, match=r"random_module 'net': .* got \['wieght'\]; did you mean 'weight'"):
        pyro.random_module("net", nn.Linear(1, 1), {"wieght": dist.Normal(0.0, 1.0)})


def test_first_names_of_plates() -> None:
    with pyro.iarange("row", 3):
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (3,)
    assert list(pyro.irange("column", 2)) == [0, 1]
