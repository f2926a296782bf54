"""Guides that run the model: their laws, what they share, and what they know of upstream draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import brancher.distributions as dist
from brancher import get_param_store, handlers, param, plate, sample
from brancher.errors import GuideError
from brancher.infer import SVI, Trace_ELBO
from brancher.infer.autoguide import (
    AutoGuideList,
    AutoHierarchicalNormalMessenger,
    AutoNormal,
    AutoNormalMessenger,
    AutoRegressiveMessenger,
    init_to_value,
)
from brancher.optim import Adam

KINDS = [AutoNormalMessenger, AutoHierarchicalNormalMessenger, AutoRegressiveMessenger]


def chain(y: torch.Tensor) -> None:
    """A level and a value close to it: strongly dependent in the posterior."""
    mu = sample("mu", dist.Normal(0.0, 1.0))
    x = sample("x", dist.Normal(mu, 0.1))
    sample("y", dist.Normal(x, 1.0), obs=y)


def fit(guide: Any, model: Any, *args: Any) -> float:
    for rate in (0.05, 0.01, 0.002):
        svi = SVI(model, guide, Adam({"lr": rate}), Trace_ELBO(20, vectorize_particles=True))
        for _ in range(400):
            svi.step(*args)
    return float(Trace_ELBO(2000, vectorize_particles=True).loss(model, guide, *args))


def test_normal_law_is_that_of_auto_normal() -> None:
    def model() -> None:
        sample("x", dist.Gamma(2.0, 1.0))
        with plate("row", 3):
            sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    values = {"x": torch.tensor(1.5), "z": torch.ones(3, 2)}
    start = init_to_value(values=values)
    one, other = AutoNormalMessenger(model, init_loc_fn=start), AutoNormal(model, init_loc_fn=start)
    traces = [handlers.trace(handlers.substitute(guide, data=values)).get_trace() for guide in (one, other)]
    torch.testing.assert_close(traces[0].log_prob_sum(), traces[1].log_prob_sum())
    torch.testing.assert_close(one.median(), other.median())


@pytest.mark.slow
def test_only_guides_that_know_upstream_draws_reach_the_evidence() -> None:
    y = torch.tensor(1.0)
    exact = -float(dist.Normal(0.0, 2.01**0.5).log_prob(y))
    losses = {kind.__name__: fit(kind(chain), chain, y) for kind in KINDS}
    # 2,000 draws of terms whose sd is about 0.1 once converged.
    assert losses["AutoHierarchicalNormalMessenger"] == pytest.approx(exact, abs=0.05)
    assert losses["AutoRegressiveMessenger"] == pytest.approx(exact, abs=0.05)
    assert losses["AutoNormalMessenger"] > exact + 0.5


@pytest.mark.parametrize("level", [0.0, 5.0])
def test_hierarchical_law_moves_with_the_draws_above(level: float) -> None:
    guide = AutoHierarchicalNormalMessenger(chain, init_scale=1e-4).setup(torch.tensor(1.0))
    fixed = handlers.substitute(guide, data={"mu": torch.tensor(level)})
    assert fixed(torch.tensor(1.0))["x"].item() == pytest.approx(level, abs=0.01)


def test_the_autoregressive_guide_of_scale_one_begins_as_the_prior() -> None:
    y = torch.tensor(1.0)
    record = handlers.trace(AutoRegressiveMessenger(chain, init_scale=1.0)).get_trace(y)
    values = {name: record[name].value for name in ("mu", "x")}
    prior = handlers.trace(handlers.condition(chain, data=values)).get_trace(y)
    torch.testing.assert_close(record.log_prob_sum(), prior.log_prob_sum(lambda name, site: name != "y"))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_an_amortized_plate_share_their_parameters(kind: Any) -> None:
    def model(y: torch.Tensor) -> None:
        mu = sample("mu", dist.Normal(0.0, 1.0))
        with plate("row", 10, subsample_size=len(y)):
            z = sample("z", dist.Normal(mu, 1.0))
            sample("y", dist.Normal(z, 1.0), obs=y)

    guide = kind(model, amortized_plates=["row"])
    assert guide(torch.zeros(4))["z"].shape == (4,)
    shapes = {name: tuple(value.shape) for name, value in guide.named_parameters()}
    assert shapes["locs.z"] == (1,) and shapes["scales.z"] == (1,)
    SVI(model, guide, Adam({"lr": 0.01}), Trace_ELBO()).step(torch.zeros(4))
    assert kind(model)(torch.zeros(4))["z"].shape == (4,)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_of_the_model_are_no_concern_of_the_guide(kind: Any) -> None:
    def model() -> None:
        sample("x", dist.Normal(param("top", torch.tensor(0.5)), 1.0))

    guide = kind(model)
    names = set(handlers.trace(guide).get_trace().param_nodes)
    assert "top" not in names and f"{kind.__name__}.locs.x" in names
    SVI(model, guide, Adam({"lr": 0.1}), Trace_ELBO()).step()
    assert f"{kind.__name__}.scales.x" in get_param_store()


def test_part_of_a_list() -> None:
    guide = AutoGuideList(chain)
    guide.append(AutoNormal(handlers.block(chain, expose=["mu"])))
    guide.append(AutoNormalMessenger(handlers.block(chain, hide=["mu"])))
    assert set(guide(torch.tensor(1.0))) == {"mu", "x"}


def test_medians_follow_medians() -> None:
    guide = AutoHierarchicalNormalMessenger(chain)
    with torch.no_grad():
        guide.setup(torch.tensor(1.0))
        guide.locs.mu.fill_(2.0)
        guide.locs.x.fill_(0.5)
    assert {name: float(value) for name, value in guide.median(torch.tensor(1.0)).items()} == {
        "mu": 2.0,
        "x": 2.5,
    }
    with pytest.raises(GuideError, match="expected a guide with medians"):
        AutoRegressiveMessenger(chain).median(torch.tensor(1.0))


def test_named_site_without_a_mean_error() -> None:
    def heavy() -> None:
        sample("x", dist.Cauchy(0.0, 1.0))

    assert set(AutoHierarchicalNormalMessenger(heavy)()) == {"x"}
    with pytest.raises(GuideError, match="site 'x': expected a prior with a finite mean, got Cauchy"):
        AutoHierarchicalNormalMessenger(heavy, hierarchical_sites=["x"])()


def test_scale_that_is_not_positive_error() -> None:
    with pytest.raises(GuideError, match="init_scale as a number > 0"):
        AutoNormalMessenger(chain, init_scale=0.0)
