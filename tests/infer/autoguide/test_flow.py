from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions.transforms import AffineTransform, TanhTransform

import brancher.distributions as dist
from brancher import handlers, sample
from brancher.errors import GuideError
from brancher.infer import SVI, Trace_ELBO
from brancher.infer.autoguide import AffineAutoregressive, AutoNormalizingFlow
from brancher.optim import Adam


def model() -> torch.Tensor:
    return sample("x", dist.Normal(torch.ones(3), 1.0).to_event(1))


def _wild(dim: int, reverse: bool) -> AffineAutoregressive:
    flow = AffineAutoregressive(dim, 16 if reverse else [16, 8], reverse=reverse).double()
    nn.init.normal_(flow.layers[-1].weight)
    return flow


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("reverse", [False, True])
def test_autoregressive_slope_is_the_jacobian(dim: int, reverse: bool) -> None:
    flow, x = _wild(dim, reverse), torch.randn(dim, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(flow, x)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(flow.log_abs_det_jacobian(x, flow(x)), expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_autoregressive_inverse_goes_back(reverse: bool) -> None:
    flow, x = _wild(4, reverse), torch.randn(6, 4, dtype=torch.float64)
    torch.testing.assert_close(flow.inverse(flow(x)), x)


class Shift(nn.Module):
    """The smallest learnable flow."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.by

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


FLOWS = {
    "one module": Shift,
    "list of modules": lambda n: [Shift(n), AffineAutoregressive(n)],
    "transform": lambda n: AffineTransform(torch.zeros(n), 2.0 * torch.ones(n)),
    "mixed": lambda n: [Shift(n), TanhTransform()],
    "vector transform": lambda n: dist.transforms.LowerCholeskyAffine(torch.zeros(n), torch.eye(n)),
}


@pytest.mark.parametrize("flow", FLOWS)
def test_any_flow_gives_a_finite_loss(flow: str) -> None:
    guide = AutoNormalizingFlow(model, FLOWS[flow])
    for particles in (1, 5):
        assert torch.isfinite(
            Trace_ELBO(particles, vectorize_particles=True).differentiable_loss(model, guide)
        )


def test_density_is_that_of_the_posterior() -> None:
    guide = AutoNormalizingFlow(
        model, lambda n: [AffineAutoregressive(n), AffineAutoregressive(n, reverse=True)]
    )
    guide.setup()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.normal_(std=0.3)
    site = handlers.trace(guide).get_trace()["_AutoNormalizingFlow_latent"]
    torch.testing.assert_close(
        site.fn.log_prob(site.value), guide.get_posterior().log_prob(site.value.clone())
    )


def test_parameters_of_modules_are_trained_by_svi() -> None:
    guide = AutoNormalizingFlow(model, Shift)
    svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO(50, vectorize_particles=True))
    for _ in range(200):
        svi.step()
    # The posterior is the prior, so the best shift is 1; the rate's jitter is left.
    torch.testing.assert_close(guide.transform["0"].by.detach(), torch.ones(3), atol=0.3, rtol=0)


@pytest.mark.parametrize("flow", [lambda n: None, lambda n: [torch.zeros(n)], lambda n: nn.Linear(n, n)])
def test_something_else_than_a_flow_error(flow: Any) -> None:
    with pytest.raises(
        GuideError, match="flow: expected a transform, or a callable with log_abs_det_jacobian"
    ):
        AutoNormalizingFlow(model, flow)()


def test_replaced_parameter_error() -> None:
    guide = AutoNormalizingFlow(model, Shift).setup()
    replaced = handlers.substitute(guide, data={"AutoNormalizingFlow.transform.0.by": torch.ones(3)})
    with pytest.raises(GuideError, match="to be read as it is"):
        replaced()


def test_sample_latent_is_a_draw_of_the_vector() -> None:
    guide = AutoNormalizingFlow(model, lambda n: AffineAutoregressive(n, [8, 8]))
    assert guide.sample_latent().shape == (3,)
