"""Subclasses of ``AutoGuide`` that write ``forward`` themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import brancher.distributions as dist
from brancher import get_param_store, handlers, sample
from brancher.distributions import constraints
from brancher.errors import ParamError
from brancher.handlers import block
from brancher.infer import SVI, Trace_ELBO
from brancher.infer.autoguide import AutoDiagonalNormal, AutoGuide, AutoGuideList, AutoNormal
from brancher.nn import PyroParam
from brancher.optim import Adam


def model(y: torch.Tensor) -> None:
    x = sample("x", dist.Normal(0.0, 1.0))
    sample("z", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(x, 1.0), obs=y)


Y = torch.tensor(1.0)


class ByHand(AutoGuide):
    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.loc = nn.Parameter(torch.tensor(0.0))
        self.scale = PyroParam(torch.tensor(0.5), constraint=constraints.positive)
        self.net = nn.Linear(1, 1)

    def forward(self, y: torch.Tensor) -> dict[str, torch.Tensor]:
        shift = self.net(y.reshape(1))[0]
        return {"x": sample("x", dist.Normal(self.loc + shift, self.scale))}

    def median(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        return {"x": self.loc.detach()}


def both() -> AutoGuideList:
    guide = AutoGuideList(model)
    guide.custom = ByHand(model)
    guide.rest = AutoDiagonalNormal(block(model, hide=["x"]))
    return guide


def test_parameters_are_read_constrained_and_shown() -> None:
    guide = ByHand(model)
    torch.testing.assert_close(guide.scale, torch.tensor(0.5))
    record = handlers.trace(guide).get_trace(Y)
    assert set(record.param_nodes) == {
        *("ByHand.loc", "ByHand.scale", "ByHand.net.weight", "ByHand.net.bias"),
    }
    assert {"ByHand.loc", "ByHand.scale"} <= set(get_param_store().keys())


def test_a_guide_by_hand_is_trained_to_the_posterior() -> None:
    def of_x(y: torch.Tensor) -> None:
        sample("y", dist.Normal(sample("x", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    guide = ByHand(of_x)
    svi = SVI(of_x, guide, Adam({"lr": 0.05}), Trace_ELBO(30, vectorize_particles=True))
    for _ in range(300):
        svi.step(Y)
    law = handlers.trace(guide).get_trace(Y)["x"].fn
    # The posterior of x is Normal(1 / 2, sd 1 / sqrt 2).
    assert law.mean.item() == pytest.approx(0.5, abs=0.1)
    assert law.stddev.item() == pytest.approx(0.5**0.5, abs=0.1)


def test_a_guide_by_hand_is_a_part_of_a_list() -> None:
    guide = both()
    assert set(guide(Y)) == {"x", "z"}
    assert set(guide.median(Y)) == {"x", "z"}
    SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO()).step(Y)
    assert "AutoGuideList.custom.scale" in get_param_store()


def test_state_goes_from_one_guide_to_another() -> None:
    guide, other = ByHand(model), ByHand(model)
    with torch.no_grad():
        guide.loc.fill_(2.0)
    other.load_state_dict(guide.state_dict())
    assert other.loc.item() == 2.0 and copy.deepcopy(guide).loc.item() == 2.0


def test_first_value_outside_the_constraint_error() -> None:
    class Bad(AutoGuide):
        def __init__(self, model: Any) -> None:
            super().__init__(model)
            self.scale = PyroParam(torch.tensor(-0.5), constraint=constraints.positive)

        def forward(self) -> dict[str, torch.Tensor]:
            return {}

    with pytest.raises(ParamError, match="'scale'"):
        Bad(model)


def test_neither_forward_nor_draws_error() -> None:
    with pytest.raises(NotImplementedError, match="AutoGuide: expected a guide with forward"):
        AutoGuide(model)(Y)


def test_call_gives_the_values_in_the_order_of_their_names() -> None:
    guide = AutoNormal(model)
    guide(Y)
    torch.manual_seed(0)
    expected = guide(Y)
    torch.manual_seed(0)
    assert guide.call(Y) == (expected["x"], expected["z"])
