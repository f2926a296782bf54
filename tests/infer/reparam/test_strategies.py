from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats

import brancher.distributions as dist
from brancher import get_param_store, handlers, plate, sample
from brancher.errors import SiteError
from brancher.handlers import trace
from brancher.infer import Trace_ELBO
from brancher.infer.autoguide import AutoNormal
from brancher.infer.reparam import (
    AutoReparam,
    CircularReparam,
    GumbelSoftmaxReparam,
    LocScaleReparam,
    MinimalReparam,
    ProjectedNormalReparam,
    SplitReparam,
    StudentTReparam,
    TransformReparam,
)
from brancher.infer.reparam.angles import Unwrapped, wrap


def _one(fn: Any) -> Any:
    def model() -> torch.Tensor:
        with plate("row", 4000):
            return sample("x", fn)

    return model


CASES = {
    "decentred": (dist.Normal(3.0, 2.0), LocScaleReparam(0.0)),
    "half": (dist.Normal(3.0, 2.0), LocScaleReparam(0.5)),
    "centred": (dist.Normal(3.0, 2.0), LocScaleReparam(1.0)),
    "learned": (dist.Normal(3.0, 2.0), LocScaleReparam()),
    "student": (dist.StudentT(5.0, 1.0, 3.0), LocScaleReparam(0.3, shape_params=["df"])),
    "log-normal": (dist.LogNormal(0.5, 0.3), TransformReparam()),
    "heavy tail": (dist.StudentT(5.0, 1.0, 3.0), StudentTReparam()),
    "angle": (dist.VonMises(2.5, 1.5), CircularReparam()),
}


@pytest.mark.parametrize("case", CASES)
def test_prior_is_unchanged(case: str) -> None:
    fn, strategy = CASES[case]
    draws = handlers.reparam(_one(fn), config={"x": strategy})().detach().numpy()
    expected = fn.sample((20_000,)).numpy()
    # Two samples of 4,000 and 20,000; the seed is fixed, p < 1e-4 would come up once in 10,000.
    assert stats.ks_2samp(draws, expected).pvalue > 1e-4


def test_directions_are_unchanged() -> None:
    fn = dist.ProjectedNormal(torch.tensor([1.0, 0.5]))
    draws = handlers.reparam(_one(fn), config={"x": ProjectedNormalReparam()})()
    angles, expected = (torch.atan2(v[:, 1], v[:, 0]).numpy() for v in (draws, fn.sample((20_000,))))
    assert stats.ks_2samp(angles, expected).pvalue > 1e-4  # as above


@pytest.mark.parametrize("centered", [0.0, 0.4, 1.0])
def test_density_changes_with_the_variables(centered: float) -> None:
    model = handlers.reparam(
        lambda: sample("x", dist.Normal(3.0, 2.0)), config={"x": LocScaleReparam(centered)}
    )
    trace = handlers.trace(model).get_trace()
    slope = (1.0 - centered) * math.log(2.0)
    expected = dist.Normal(3.0, 2.0).log_prob(trace["x"].value) + slope
    torch.testing.assert_close(trace.log_prob_sum(), expected)


def test_centeredness_is_learned_inside_its_interval() -> None:
    def model() -> None:
        with plate("row", 8, subsample_size=3):
            sample("x", dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))

    handlers.reparam(model, config={"x": LocScaleReparam()})()
    store = get_param_store()
    torch.testing.assert_close(store["x_centered"].detach(), torch.full((8, 2), 0.5))
    assert store.event_dim("x_centered") == 1


def test_unwrapped_density_is_one_over_the_line() -> None:
    line = torch.linspace(-60.0, 60.0, 400_001, dtype=torch.float64)
    law = Unwrapped(dist.VonMises(torch.tensor(2.5, dtype=torch.float64), 1.5))
    # Tails beyond 60 hold exp(-55).
    torch.testing.assert_close(
        torch.trapezoid(law.log_prob(line).exp(), line), torch.tensor(1.0, dtype=torch.float64)
    )


def test_wrapped_angles_are_the_same_directions() -> None:
    angles = torch.linspace(-20.0, 20.0, 101)
    torch.testing.assert_close(wrap(angles).cos(), angles.cos(), atol=1e-5, rtol=0)
    assert (wrap(angles) >= -math.pi).all() and (wrap(angles) < math.pi).all()


def test_guides_work_on_rewritten_models() -> None:
    def model(y: torch.Tensor) -> None:
        tau = sample("tau", dist.LogNormal(0.0, 1.0))
        angle = sample("angle", dist.VonMises(0.0, 1.0))
        with plate("row", len(y)):
            theta = sample("theta", dist.Normal(angle, tau))
            sample("y", dist.Normal(theta, 1.0), obs=y)

    config = {"tau": TransformReparam(), "angle": CircularReparam(), "theta": LocScaleReparam()}
    rewritten = handlers.reparam(model, config=config)
    guide = AutoNormal(rewritten)
    y = torch.ones(4)
    loss = Trace_ELBO(5, vectorize_particles=True).differentiable_loss(rewritten, guide, y)
    loss.backward()
    assert torch.isfinite(loss)
    assert set(guide(y)) == {"tau_base", "angle_unwrapped", "theta_decentered"}


@pytest.mark.parametrize(
    "strategy, fn",
    [
        (LocScaleReparam(0.0), dist.Gamma(1.0, 1.0)),
        (LocScaleReparam(0.0), dist.LogNormal(0.0, 1.0)),
        (TransformReparam(), dist.Normal(0.0, 1.0)),
        (CircularReparam(), dist.Normal(0.0, 1.0)),
        (ProjectedNormalReparam(), dist.Normal(0.0, 1.0)),
    ],
)
def test_wrong_family_error(strategy: Any, fn: Any) -> None:
    with pytest.raises(
        SiteError, match=rf"site 'x': expected .* for {type(strategy).__name__}, got {type(fn).__name__}"
    ):
        handlers.reparam(lambda: sample("x", fn), config={"x": strategy})()


@pytest.mark.parametrize("strategy", [LocScaleReparam(0.0), TransformReparam(), CircularReparam()])
def test_observed_site_error(strategy: Any) -> None:
    with pytest.raises(SiteError, match="site 'x': expected a latent site"):
        handlers.reparam(lambda: sample("x", dist.Normal(0.0, 1.0), obs=1.0), config={"x": strategy})()


def test_centered_outside_its_interval_error() -> None:
    with pytest.raises(SiteError, match=r"centered in \[0, 1\]"):
        LocScaleReparam(1.5)


def test_relaxed_vectors_are_unchanged() -> None:
    fn = dist.RelaxedOneHotCategorical(torch.tensor(0.7), torch.tensor([0.2, 0.5, 0.3]))
    draws = handlers.reparam(_one(fn), config={"x": GumbelSoftmaxReparam()})()
    expected = fn.sample(torch.Size([20_000]))
    for entry in range(3):
        assert stats.ks_2samp(draws[:, entry].numpy(), expected[:, entry].numpy()).pvalue > 1e-4  # as above


def test_heavy_tailed_observation_becomes_normal() -> None:
    def model() -> None:
        sample("x", dist.StudentT(3.0, 1.0, 2.0), obs=torch.tensor(2.0))

    rewritten = handlers.reparam(model, config={"x": StudentTReparam()})
    site = handlers.trace(handlers.condition(rewritten, data={"x_gamma": torch.tensor(4.0)})).get_trace()["x"]
    assert site.is_observed and site.fn.log_prob(site.value) == dist.Normal(1.0, 1.0).log_prob(site.value)


def _pair() -> torch.Tensor:
    with plate("row", 2):
        return sample("x", dist.Normal(torch.zeros(5), 2.0).to_event(1))


def test_split_site_keeps_its_density() -> None:
    model = handlers.reparam(_pair, config={"x": SplitReparam([2, 3], -1)})
    parts = {"x_split_0": torch.randn(2, 2), "x_split_1": torch.randn(2, 3)}
    record = handlers.trace(handlers.condition(model, data=parts)).get_trace()
    whole = torch.cat(list(parts.values()), -1)
    torch.testing.assert_close(record["x"].value, whole)
    torch.testing.assert_close(record.log_prob_sum(), dist.Normal(0.0, 2.0).log_prob(whole).sum())


def test_split_dim_error() -> None:
    with pytest.raises(SiteError, match="site 'x': expected an event dimension to split, got dim=-2"):
        handlers.reparam(_pair, config={"x": SplitReparam([1, 1], -2)})()


def test_split_bounded_site_error() -> None:
    model = handlers.reparam(
        lambda: sample("x", dist.Gamma(torch.ones(4), 1.0).to_event(1)), config={"x": SplitReparam(2, -1)}
    )
    with pytest.raises(SiteError, match="expected a law on the real line for SplitReparam"):
        model()


def _everything() -> None:
    scale = sample("scale", dist.LogNormal(0.0, 1.0))
    spread = sample("spread", dist.HalfCauchy(1.0))
    loc = sample("loc", dist.Normal(0.0, scale * spread))
    sample("direction", dist.ProjectedNormal(torch.ones(2)))
    sample("y", dist.Normal(loc, 1.0), obs=torch.tensor(1.0))


def test_auto_reparam_chooses_by_family() -> None:
    record = handlers.trace(handlers.reparam(_everything, config=AutoReparam(centered=0.0))).get_trace()
    assert record.stochastic_nodes == [
        "scale_base_decentered",
        "spread",
        "loc_decentered",
        "direction_normal",
    ]


def test_minimal_reparam_leaves_what_works() -> None:
    record = handlers.trace(handlers.reparam(_everything, config=MinimalReparam())).get_trace()
    assert record.stochastic_nodes == ["scale", "spread", "loc", "direction_normal"]


def test_strategy_is_a_decorator_of_models():
    @MinimalReparam()
    def model(loc):
        return sample("x", dist.ProjectedNormal(loc))

    assert trace(model).get_trace(torch.ones(3)).stochastic_nodes == ["x_normal"]
