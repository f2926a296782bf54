"""Gradients along draws alone: the same on average, and nothing left where the posterior is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from brancher.infer import Trace_ELBO
from brancher.infer.autoguide import AutoNormal
from brancher.symbolic import (
    BF,
    BernoulliVariable,
    BetaVariable,
    DeterministicVariable,
    HalfNormalVariable,
    LogitNormalVariable,
    MultivariateNormalVariable,
    NormalVariable,
    ProbabilisticModel,
    RootVariable,
    inference,
)
from brancher.symbolic.flows import PlanarFlow
from brancher.symbolic.mean_field import MeanField
from brancher.symbolic.methods import elbo
from brancher.symbolic.parameters import Parameter
from brancher.symbolic.paths import with_paths

QUIET: Any = {"progress": False, "compile": False, "seed": 0}


def gradients(model: ProbabilisticModel, guide: Any, count: int) -> tuple[float, dict[str, torch.Tensor]]:
    pair = model._pair()
    leaves = {n.label: n.place.leaf for n in pair.guide.nodes if isinstance(n, Parameter)}
    torch.manual_seed(0)
    with pair.store:
        loss = elbo(pair, count).differentiable_loss(pair.model, guide)
    slopes = torch.autograd.grad(loss, list(leaves.values()))
    return float(loss.detach()), dict(zip(leaves, slopes, strict=True))


def chain() -> ProbabilisticModel:
    """Every way in which a learned value reaches a law: alone, through expressions, beside draws."""
    a = NormalVariable(0.0, 1.0, "a")
    b = LogitNormalVariable(a, 1.0, "b")
    v = NormalVariable(np.zeros(2) + b, 1.0, "v")
    y = NormalVariable(BF.sum(v) + a, 0.5, "y")
    y.observe([1.0, 1.4])
    model = ProbabilisticModel([y])
    shift = RootVariable(0.3, "shift", learnable=True)
    twice = DeterministicVariable(2.0 * shift, "twice")
    qa = NormalVariable(0.2, 0.6, "a", learnable=True)
    qb = LogitNormalVariable(BF.tanh(twice) * qa, 0.7, "b", learnable=True)
    qv = MultivariateNormalVariable(
        [0.1, 0.2] + shift * qb, scale_tril=np.array([[0.5, 0.0], [0.1, 0.4]]), name="v", learnable=True
    )
    model.set_posterior_model([qa, qb, qv])
    return model


def test_gradient_is_that_of_the_bound() -> None:
    model = chain()
    plain_loss, plain = gradients(model, model._pair().guide, 200_000)
    loss, found = gradients(model, with_paths(model._pair().guide), 200_000)
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    for name, slope in plain.items():
        # The two differ by the mean of 200,000 scores, whose standard deviations are about 5 at most.
        np.testing.assert_allclose(found[name], slope, atol=5 * 5 / 200_000**0.5, err_msg=name)


@pytest.mark.parametrize("lr", [0.1, 0.03])
def test_exact_posterior_is_reached_without_noise(lr: float) -> None:
    """Whatever the steps' size and the seed: the mean is exact, where plain gradients leave it at 0.03."""
    mu = NormalVariable(0.0, 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe([1.0, 1.5, 2.0, 2.5, 3.0])
    q = NormalVariable(0.0, 1.0, "mu", learnable=True)
    model = ProbabilisticModel([y])
    inference.perform_inference(model, 400, 5, lr=lr, posterior_model=[q], **QUIET)
    assert float(q.parameters["loc"]) == pytest.approx(10.0 / 6.0, abs=1e-3)
    assert float(q.parameters["scale"]) == pytest.approx(6.0**-0.5, abs=1e-3)


def test_exact_beta_posterior_is_reached_without_noise() -> None:
    p = BetaVariable(1.0, 1.0, "p")
    y = BernoulliVariable(p, "y")
    y.observe([1] * 24 + [0] * 6)
    q = BetaVariable(1.0, 1.0, "p", learnable=True)
    inference.perform_inference(
        ProbabilisticModel([y]), 400, 20, optimizer="SGD", lr=0.1, posterior_model=[q], **QUIET
    )
    assert (float(q.parameters["alpha"]), float(q.parameters["beta"])) == pytest.approx((25.0, 7.0), rel=0.01)


def test_networks_and_flows_are_taken_as_they_are() -> None:
    z = NormalVariable(np.zeros(2), 1.0, "z")
    y = NormalVariable(BF.sum(z), 1.0, "y")
    y.observe(1.0)
    for q in (
        PlanarFlow(size=2)(NormalVariable(np.zeros(2), 1.0, "z", learnable=True)),
        NormalVariable(BF.BrancherFunction(nn.Linear(1, 2))(RootVariable([1.0], "one")), 1.0, "z"),
    ):
        model = ProbabilisticModel([y])
        model.set_posterior_model([q])
        guide = model._pair().guide
        assert with_paths(guide) is guide
        inference.perform_inference(model, 3, 2, **QUIET)


def test_silent_and_discrete_variables_keep_their_scores() -> None:
    k = BernoulliVariable(0.5, "k")
    y = NormalVariable(3.0 * k, 1.0, "y")
    y.observe([2.9, 3.2])
    model = ProbabilisticModel([y])
    base = NormalVariable(0.0, 1.0, "base", learnable=True)
    base.silence_density()
    q = BernoulliVariable(logits=base, name="k")
    inference.perform_inference(model, 300, 30, lr=0.05, posterior_model=[q], **QUIET)
    assert model.get_posterior_sample(2000, seed=0)["k"].mean() > 0.95


def test_posterior_built_by_itself_is_reached_without_noise() -> None:
    mu = NormalVariable(np.zeros(2), 1.0, "mu")
    y = NormalVariable(mu, 1.0, "y")
    y.observe([[1.0, -1.0], [2.0, -3.0]])
    model = ProbabilisticModel([y])
    inference.perform_inference(model, 400, 5, lr=0.1, **QUIET)
    store = model._pair().store
    np.testing.assert_allclose(store["AutoNormal.locs.mu"].detach(), [1.0, -4.0 / 3.0], atol=1e-3)
    np.testing.assert_allclose(store["AutoNormal.scales.mu"].detach(), 3.0**-0.5, atol=1e-3)


def test_built_posterior_scores_as_its_plain_guide() -> None:
    """Positive and bounded variables too: value and mean gradient are those of ``AutoNormal``."""
    s, p = HalfNormalVariable(1.0, "s"), BetaVariable(2.0, 2.0, "p")
    y = NormalVariable(p, s, "y")
    y.observe([0.4, 0.9, 0.1])
    found = {}
    for kind in (AutoNormal, MeanField):
        program = ProbabilisticModel([y]).to_function()
        guide = kind(program, init_scale=0.5)
        torch.manual_seed(0)
        loss = Trace_ELBO(50_000, vectorize_particles=True, max_plate_nesting=1).differentiable_loss(
            program, guide
        )
        loss.backward()
        slopes = torch.cat([leaf.grad.reshape(-1) for leaf in guide.parameters()])
        found[kind.__name__] = (float(loss.detach()), slopes)
    assert found["MeanField"][0] == pytest.approx(found["AutoNormal"][0], rel=1e-5)
    # Scores have standard deviations near 2 / 0.5; five errors of 50,000.
    np.testing.assert_allclose(found["MeanField"][1], found["AutoNormal"][1], atol=5 * 4 / 50_000**0.5)
