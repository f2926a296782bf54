"""The maximum mean discrepancy: its value against the formula and a closed form, and what it finds."""

from __future__ import annotations

import math

import pytest
import torch

import brancher.distributions as dist
from brancher import handlers, optim, param, plate, sample
from brancher.errors import InferenceError, InferenceTypeError
from brancher.infer import SVI, Trace_MMD
from brancher.infer.autoguide import AutoNormal
from brancher.infer.elbo.mmd import mmd

ROWS = torch.tensor([0.3, -1.0, 2.0])


def rbf(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (-(x.unsqueeze(1) - y.unsqueeze(0)).square().sum(-1) / 2).exp()


def model() -> None:
    z = sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with plate("row", 3):
        local = sample("local", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(z.sum(-1) + local, 1.0), obs=ROWS)


def guide() -> None:
    sample("z", dist.Normal(param("loc", torch.ones(2)), 0.7).to_event(1))
    with plate("row", 3):
        sample("local", dist.Normal(0.5, 0.5))


class Seen(handlers.Messenger):
    """Keeps the values of latent sites, in the order of the runs."""

    def __init__(self) -> None:
        super().__init__(None)
        self.values: dict[str, list[torch.Tensor]] = {"z": [], "local": []}

    def postprocess_message(self, message: handlers.Message) -> None:
        if message.name in self.values:
            self.values[message.name].append(message.value.detach())


@pytest.mark.parametrize("vectorized", [True, False])
def test_loss_is_the_likelihood_and_the_discrepancies(vectorized: bool) -> None:
    weights = {"z": 3.0, "local": 0.5}
    objective = Trace_MMD({"z": rbf, "local": rbf}, weights, num_particles=4, vectorize_particles=vectorized)
    objective.loss(model, guide)  # lays out the particles
    with Seen() as seen:
        got = objective.loss(model, guide)

    runs = 1 if vectorized else 4

    def points(name: str, width: int, of_prior: bool = False) -> torch.Tensor:
        # Guide and model on its draws in turn, then the prior.
        found = seen.values[name][2 * runs :] if of_prior else seen.values[name][: 2 * runs : 2]
        return torch.stack(found).reshape(4, width)

    expected = 0.0
    for name, width in (("z", 2), ("local", 3)):
        q, p = points(name, width), points(name, width, of_prior=True)
        distance = rbf(q, q).mean() + rbf(p, p).mean() - 2 * rbf(q, p).mean()
        expected += weights[name] * float(distance)
    loc = points("z", 2).sum(-1, keepdim=True) + points("local", 3)
    expected -= float(dist.Normal(loc, 1.0).log_prob(ROWS).sum(-1).mean())
    assert got == pytest.approx(expected, rel=1e-5)


def test_discrepancy_of_normals_is_that_in_closed_form() -> None:
    x, y = 0.5 * torch.randn(3000, 1) + 1.0, torch.randn(3000, 1)

    def mean_kernel(variance: float, distance: float) -> float:
        return math.exp(-(distance**2) / (2 * (1 + variance))) / math.sqrt(1 + variance)

    exact = mean_kernel(0.5, 0.0) + mean_kernel(2.0, 0.0) - 2 * mean_kernel(1.25, 1.0)
    # The estimate's standard deviation is below 0.01, its bias below 1 / 3000.
    assert float(mmd(rbf, x, y, "x")) == pytest.approx(exact, abs=0.05)


def test_without_data_the_guide_finds_the_prior() -> None:
    def prior() -> None:
        sample("z", dist.Normal(1.0, 2.0))

    auto = AutoNormal(prior, init_scale=0.5)
    decay = optim.ClippedAdam({"lr": 0.05, "lrd": 0.99})
    svi = SVI(prior, auto, decay, Trace_MMD(rbf, 10.0, num_particles=100))
    svi.run(500, progress=False, compile=False)
    assert auto.locs.z.item() == pytest.approx(1.0, abs=0.15)
    assert auto.scales.z.item() == pytest.approx(2.0, abs=0.2)


def test_discrete_site_error() -> None:
    def switch() -> None:
        sample("k", dist.Bernoulli(0.5))

    with pytest.raises(InferenceError, match="pathwise gradients, got site 'k' of the model without"):
        Trace_MMD(rbf, num_particles=1).loss(switch, switch)


def test_site_without_kernel_error() -> None:
    with pytest.raises(InferenceError, match=r"expected kernel for site 'local', got it for \['locl', 'z'\]"):
        Trace_MMD({"z": rbf, "locl": rbf}).loss(model, guide)


def test_kernel_of_another_shape_error() -> None:
    with pytest.raises(InferenceError, match=r"site 'z' to return shape \(3, 3\), got \(3, 2\)"):
        Trace_MMD(lambda x, y: x - y, num_particles=3).loss(model, guide)


def test_kernel_that_is_no_function_error() -> None:
    with pytest.raises(InferenceTypeError, match="expected kernel as a function of points"):
        Trace_MMD("rbf")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [-1.0, float("inf"), True, {"z": -2.0}])
def test_scale_error(scale: float) -> None:
    with pytest.raises(InferenceError, match="expected mmd_scale as a number >= 0"):
        Trace_MMD(rbf, scale)
