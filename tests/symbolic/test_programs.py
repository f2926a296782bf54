"""Programs in the style of Brancher 0.3: they run with their imports changed and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import brancher.symbolic.functions as BF
from brancher.errors import InferenceTypeError, SiteTypeError
from brancher.symbolic import (
    BinomialVariable,
    CategoricalVariable,
    DeterministicVariable,
    EmpiricalVariable,
    NormalVariable,
    ProbabilisticModel,
    RandomIndices,
    RootVariable,
    inference,
)
from brancher.symbolic.gradients import BlackBoxEstimator
from brancher.symbolic.inference import MaximumLikelihood, ReverseKL
from brancher.symbolic.inference import SteinVariationalGradientDescent as SVGD
from brancher.symbolic.inference import WassersteinVariationalGradientDescent as WVGD

QUIET: Any = {"progress": False, "compile": False}


def test_bayesian_network_on_columns_and_minibatches() -> None:
    rng = np.random.default_rng(0)
    dataset_size, number_regressors, number_hidden, number_outputs = 90, 4, 5, 3
    output_labels = rng.integers(0, 3, size=(dataset_size, 1))
    centers = 3.0 * np.eye(3, 4)[output_labels[:, 0]]
    input_variable = (centers + rng.normal(size=(dataset_size, 4))).reshape(dataset_size, 4, 1)

    minibatch_indices = RandomIndices(
        dataset_size=dataset_size, batch_size=30, name="indices", is_observed=True
    )
    x = EmpiricalVariable(input_variable, indices=minibatch_indices, name="x", is_observed=True)
    labels = EmpiricalVariable(output_labels, indices=minibatch_indices, name="labels", is_observed=True)

    def prior(shape: tuple[int, int], name: str) -> NormalVariable:
        return NormalVariable(np.zeros(shape), np.ones(shape), name)

    def posterior(shape: tuple[int, int], name: str) -> NormalVariable:
        return NormalVariable(np.zeros(shape), 0.1 * np.ones(shape), name, learnable=True)

    shapes = {
        "weights1": (number_hidden, number_regressors),
        "b1": (number_hidden, 1),
        "weights2": (number_outputs, number_hidden),
        "b2": (number_outputs, 1),
    }
    w = {name: prior(shape, name) for name, shape in shapes.items()}
    hidden = BF.tanh(BF.matmul(w["weights1"], x) + w["b1"])
    k = CategoricalVariable(logits=BF.matmul(w["weights2"], hidden) + w["b2"], name="k")
    model = ProbabilisticModel([k])
    k.observe(labels)
    model.set_posterior_model(ProbabilisticModel([posterior(shape, name) for name, shape in shapes.items()]))
    torch.manual_seed(0)
    inference.perform_inference(
        model, number_iterations=150, number_samples=3, optimizer="Adam", lr=0.05, **QUIET
    )
    predicted = np.stack(list(model.get_posterior_sample(40, input_values={x: input_variable}, seed=0)["k"]))
    votes = np.array([np.bincount(row, minlength=3).argmax() for row in predicted.T])
    assert (votes == output_labels[:, 0]).mean() > 0.85


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.spread = nn.Linear(6, 2), nn.Linear(6, 2)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mean(x), nn.functional.softplus(self.spread(x)) + 0.01


def test_variational_autoencoder_with_named_outputs_of_networks() -> None:
    dataset = (np.random.default_rng(0).random((40, 6)) > 0.5).astype(float)
    encoder, decoder = BF.BrancherFunction(Encoder()), BF.BrancherFunction(nn.Linear(2, 6))
    z = NormalVariable(np.zeros((2,)), np.ones((2,)), name="z")
    decoder_output = DeterministicVariable(decoder(z), name="decoder_output")
    x = BinomialVariable(total_count=1, logits=decoder_output, name="x")
    model = ProbabilisticModel([x, z])

    Qx = EmpiricalVariable(dataset, batch_size=20, name="x", is_observed=True)
    encoder_output = DeterministicVariable(encoder(Qx), name="encoder_output")
    Qz = NormalVariable(encoder_output[0], encoder_output[1], name="z")
    model.set_posterior_model(ProbabilisticModel([Qx, Qz]))
    torch.manual_seed(0)
    inference.perform_inference(
        model,
        inference_method=ReverseKL(),
        number_iterations=60,
        number_samples=1,
        optimizer="Adam",
        lr=0.05,
        **QUIET,
    )
    losses = model.diagnostics["loss curve"]
    assert losses.iloc[-10:].mean() < 0.95 * losses.iloc[:5].mean()
    assert list(model.get_sample(2)) == ["z", "decoder_output", "x"]
    table = model.posterior_model.get_sample(2)  # type: ignore[union-attr]
    mean, spread = table["encoder_output"][0]
    assert list(table) == ["x", "encoder_output", "z"] and mean.shape == spread.shape == (20, 2)


def bimodal() -> ProbabilisticModel:
    x = NormalVariable(0.0, 1.0, "x")
    y = NormalVariable(x**2, 0.2, "y")
    model = ProbabilisticModel([x, y])
    y.observe(np.array([1.0]))
    return model


@pytest.mark.parametrize("method", [SVGD, WVGD])
def test_particles_are_models_of_roots(method: Any) -> None:
    model = bimodal()
    particles = [
        ProbabilisticModel([RootVariable(p, name="x", learnable=True)]) for p in (-1.5, -0.5, 0.5, 1.5)
    ]
    inference_method = method()
    inference.perform_inference(
        model,
        inference_method=inference_method,
        posterior_model=particles,
        number_iterations=100,
        number_samples=20,
        optimizer="Adam",
        lr=0.05,
        seed=0,
        **QUIET,
    )
    draws = model.get_posterior_sample(2000, seed=0)["x"]
    # Two modes near -1 and 1, each found from its own side.
    assert draws.abs().mean() == pytest.approx(0.97, abs=0.15)
    assert 0.25 < (draws > 0).mean() < 0.75
    if method is WVGD:
        assert inference_method.weights.shape == (4,)


def test_particles_that_are_one_model_error() -> None:
    with pytest.raises(InferenceTypeError, match="list of models, one a particle"):
        inference.perform_inference(
            bimodal(), 2, inference_method=SVGD, posterior_model=RootVariable(0.0, "x"), **QUIET
        )


def test_maximum_likelihood_of_a_network_and_estimator_by_its_old_name() -> None:
    regressors = np.linspace(-1.0, 1.0, 30)[:, None]
    network = nn.Linear(1, 1)
    x = RootVariable(regressors, "x", is_observed=True)
    y = NormalVariable(BF.BrancherFunction(network)(x), 0.1, "y")
    y.observe(3.0 * regressors + 1.0)
    model = ProbabilisticModel([y])
    inference.perform_inference(
        model, inference_method=MaximumLikelihood(), number_iterations=150, lr=0.1, **QUIET
    )
    assert (network.weight.item(), network.bias.item()) == pytest.approx((3.0, 1.0), abs=0.05)
    assert ReverseKL(gradient_estimator=BlackBoxEstimator).gradient_estimator == "score"


def test_random_index_picks_for_each_draw() -> None:
    k = CategoricalVariable(probs=[0.3, 0.7], name="k")
    level = NormalVariable([0.0, 5.0], 0.1, "level")
    table = NormalVariable(np.zeros((3, 2)), 1.0, "table")
    picked = DeterministicVariable(level[k], "picked")
    row = DeterministicVariable(table[1:, k], "row")
    both = DeterministicVariable(table[k, -1], "both")
    draws = ProbabilisticModel([picked, row, both])._get_sample(7)
    index = draws["k"][:, 0, 0].long()
    assert draws["picked"].shape == (7, 1, 1) and draws["row"].shape == (7, 1, 2)
    for i, j in enumerate(index.tolist()):
        assert draws["picked"][i] == draws["level"][i, 0, j]
        assert draws["both"][i] == draws["table"][i, 0, j, 1]
        torch.testing.assert_close(draws["row"][i, 0], draws["table"][i, 0, 1:, j])


def test_random_indices_in_a_vector_score_a_mixture() -> None:
    k = CategoricalVariable(probs=3 * [[0.3, 0.7]], name="k")
    level = NormalVariable([0.0, 5.0], 1.0, "level")
    y = NormalVariable(level[k], 1.0, "y")
    y.observe([0.1, 5.2, 4.9])
    model = ProbabilisticModel([y])
    found = model.calculate_log_probability({"k": [0, 1, 1], "level": [0.2, 5.1]})
    normal = torch.distributions.Normal
    expected = normal(torch.tensor([0.0, 5.0]), 1.0).log_prob(torch.tensor([0.2, 5.1])).sum()
    expected += torch.tensor([0.3, 0.7, 0.7]).log().sum()
    expected += normal(torch.tensor([0.2, 5.1, 5.1]), 1.0).log_prob(torch.tensor([0.1, 5.2, 4.9])).sum()
    assert found == pytest.approx(float(expected), abs=1e-4)


def test_random_index_that_is_no_whole_number_error() -> None:
    a = NormalVariable(np.zeros(3), 1.0, "a")
    model = ProbabilisticModel([DeterministicVariable(a[a[0]], "b")])
    with pytest.raises(SiteTypeError, match="whole numbers"):
        model.get_sample(2)
