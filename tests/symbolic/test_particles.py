"""Particles with models of their own: where they end, and samplers that share the posterior out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from brancher.errors import GuideError, InferenceError, NonFiniteError, UnsupportedError
from brancher.plots import plot_particles
from brancher.symbolic import (
    BF,
    BernoulliVariable,
    EmpiricalVariable,
    NormalVariable,
    ProbabilisticModel,
    RandomIndices,
    RootVariable,
    inference,
)
from brancher.symbolic.inference import SteinVariationalGradientDescent as SVGD
from brancher.symbolic.inference import WassersteinVariationalGradientDescent as WVGD
from brancher.symbolic.samplers import Cells

QUIET: Any = {"progress": False, "compile": False, "seed": 0}


def bimodal() -> ProbabilisticModel:
    x = NormalVariable(0.0, 1.0, "x")
    y = NormalVariable(x**2, 0.2, "y")
    y.observe(np.array([1.0]))
    return ProbabilisticModel([y])


def roots(*places: float) -> list[ProbabilisticModel]:
    return [ProbabilisticModel([RootVariable(place, "x", learnable=True)]) for place in places]


def normals(*places: float, scale: float = 0.3) -> list[ProbabilisticModel]:
    return [ProbabilisticModel([NormalVariable(place, scale, "x", learnable=True)]) for place in places]


def place_of(particle: ProbabilisticModel) -> float:
    return float(particle.get_variable("x").value)  # type: ignore[attr-defined]


def exact() -> tuple[float, float]:
    """Mass below zero is one half; mean and sd of |x|, on a grid."""
    x = np.linspace(0.0, 4.0, 20_001)
    weights = np.exp(-0.5 * x**2 - 0.5 * ((1.0 - x**2) / 0.2) ** 2)
    weights /= weights.sum()
    mean = float(weights @ x)
    return mean, float(weights @ (x - mean) ** 2) ** 0.5


def test_samplers_are_learned_and_weigh_the_particles() -> None:
    particles, samplers = roots(-0.5, 0.5), normals(-0.5, 0.5)
    method = WVGD(
        variational_samplers=samplers, particles=particles, biased=False, number_post_samples=20_000
    )
    model = bimodal()
    inference.perform_inference(
        model,
        inference_method=method,
        number_iterations=250,
        number_samples=50,
        lr=0.02,
        posterior_model=particles,
        pretraining_iterations=0,
        **QUIET,
    )
    mean, sd = exact()
    assert method.weights.tolist() == pytest.approx([0.5, 0.5], abs=0.03)  # type: ignore[union-attr]
    # Each particle is the mean of its half; 20,000 weighted draws make the error 0.002.
    assert [place_of(p) for p in particles] == pytest.approx([-mean, mean], abs=0.01)
    assert method.sampler_model == samplers
    right = samplers[1].get_variable("x")
    assert float(right.parameters["scale"]) == pytest.approx(sd, rel=0.3)
    assert model.get_posterior_sample(500, seed=0)["x"].abs().mean() == pytest.approx(mean, abs=0.02)
    model.set_posterior_model(samplers[0])
    assert (model.get_posterior_sample(200, seed=0)["x"] < 0).all()


def test_samplers_of_several_rows_and_minibatches() -> None:
    """Latent weights under a likelihood whose rows are drawn: weights of equal starts are equal."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 2))
    labels = (rows @ [1.5, -1.0] > 0).astype(float)
    indices = RandomIndices(60, 20, name="indices")
    w = NormalVariable(np.zeros(2), 1.0, "w")
    k = BernoulliVariable(logits=BF.dot(EmpiricalVariable(rows, indices=indices, name="rows"), w), name="k")
    k.observe(EmpiricalVariable(labels, indices=indices, name="labels"))
    model = ProbabilisticModel([k])
    starts = [np.array([1.0, 0.0]), np.array([0.0, -1.0])]
    method = WVGD(
        variational_samplers=[
            ProbabilisticModel([NormalVariable(s, 0.3, "w", learnable=True)]) for s in starts
        ],
        particles=[ProbabilisticModel([RootVariable(s, "w", learnable=True)]) for s in starts],
        number_post_samples=500,
    )
    inference.perform_inference(model, 60, 10, inference_method=method, lr=0.05, **QUIET)
    draws = np.stack(list(model.get_posterior_sample(200, seed=0)["w"]))
    assert draws[:, 0].mean() > 0.8 and draws[:, 1].mean() < -0.5


def test_particle_models_end_where_their_particles_are() -> None:
    particles = roots(-1.5, -0.5, 0.5, 1.5)
    model = bimodal()
    inference.perform_inference(
        model, 150, inference_method=SVGD, posterior_model=particles, lr=0.05, **QUIET
    )
    ends = sorted(place_of(p) for p in particles)
    points = model._posterior.values["x"]  # type: ignore[union-attr]
    assert ends == pytest.approx(sorted(points.tolist()))
    assert ends[0] == pytest.approx(-1.0, abs=0.3) and ends[-1] == pytest.approx(1.0, abs=0.3)
    assert plot_particles(particles, "x") is not None


def test_cells_add_up_whatever_the_scale_of_weights() -> None:
    cells = Cells({"x": torch.tensor([0.0, 10.0])})
    cells.add({"x": torch.tensor([1.0, 9.0])}, torch.tensor([-2000.0, -2000.0]))
    cells.add({"x": torch.tensor([2.0])}, torch.tensor([-2000.0]))
    assert cells.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert cells.means["x"].tolist() == pytest.approx([1.5, 9.0])
    cells.add({"x": torch.tensor([3.0])}, torch.tensor([0.0]))
    assert cells.weights.tolist() == pytest.approx([1.0, 0.0])
    assert cells.means["x"].tolist() == pytest.approx([3.0, 10.0])  # an empty cell keeps its particle


@pytest.mark.parametrize("method", [SVGD, WVGD, inference.NUTS])
def test_minibatches_error_says_what_to_use(method: Any) -> None:
    y = NormalVariable(NormalVariable(0.0, 1.0, "x"), 1.0, "y")
    y.observe(EmpiricalVariable(np.ones(10), batch_size=4, name="rows", is_observed=True))
    with pytest.raises(UnsupportedError, match="all 10 rows of 'rows', got minibatches of 4.*ReverseKL"):
        inference.perform_inference(ProbabilisticModel([y]), 2, inference_method=method, **QUIET)


def test_samplers_without_particles_error() -> None:
    with pytest.raises(InferenceError, match="one particle for each of 2 variational_samplers, got 0"):
        inference.perform_inference(
            bimodal(), 2, inference_method=WVGD(variational_samplers=normals(-1.0, 1.0)), **QUIET
        )


def test_sampler_of_something_else_error() -> None:
    samplers = [ProbabilisticModel([NormalVariable(0.0, 1.0, "xx")])] * 2
    with pytest.raises(GuideError, match="did you mean 'x'"):
        inference.perform_inference(
            bimodal(), 2, inference_method=WVGD(variational_samplers=samplers, particles=roots(0, 1)), **QUIET
        )


@pytest.mark.parametrize("method", [SVGD, WVGD])
def test_loss_that_is_none_leaves_the_particles_alone_error(method: Any) -> None:
    x = NormalVariable(0.0, 1.0, "x")
    y = NormalVariable(BF.exp(1e4 * x**2), 1.0, "y")
    y.observe(1.0)
    with pytest.raises((NonFiniteError, InferenceError), match="finite|-inf|NaN"):
        inference.perform_inference(
            ProbabilisticModel([y]), 5, inference_method=method, posterior_model=roots(1.0, 2.0), **QUIET
        )
