from __future__ import annotations

import pytest
import torch

from brancher.distributions import (
    GaussianScaleMixture,
    MixtureOfDiagNormals,
    MixtureOfDiagNormalsSharedCovariance,
    MultivariateNormal,
)
from brancher.errors import DistributionError

LOCS = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
SCALES = torch.tensor([[1.0, 2.0], [0.5, 0.3], [0.2, 1.0]], dtype=torch.float64)
LOGITS = torch.tensor([0.0, 1.0, -0.5], dtype=torch.float64)


def test_density_is_the_weighted_sum() -> None:
    x = torch.tensor([[0.3, 0.4], [9.0, -3.0]], dtype=torch.float64)
    parts = MultivariateNormal(LOCS, scale_tril=torch.diag_embed(SCALES)).log_prob(x.unsqueeze(-2))
    expected = (LOGITS.softmax(-1) * parts.exp()).sum(-1).log()
    torch.testing.assert_close(MixtureOfDiagNormals(LOCS, SCALES, LOGITS).log_prob(x), expected)


def test_differentiable_draws_are_the_plain_ones() -> None:
    d = MixtureOfDiagNormals(LOCS, SCALES, LOGITS)
    torch.manual_seed(0)
    plain = d.sample(torch.Size([5]))
    torch.manual_seed(0)
    torch.testing.assert_close(d.rsample(torch.Size([5])), plain)


def test_pathwise_gradient_of_a_product_of_coordinates() -> None:
    # E[x0 x1] couples the coordinates: the second must move with the weights that the first implies.
    # n = 40000 independent copies, z < 4.5 on 15 entries: false alarm 1e-4
    n = 40_000
    leaves = [t.expand(n, *t.shape).clone().requires_grad_() for t in (LOCS, SCALES, LOGITS)]
    x = MixtureOfDiagNormals(*leaves).rsample()
    got = torch.autograd.grad(x.prod(-1).sum(), leaves)
    exact = [t.clone().requires_grad_() for t in (LOCS, SCALES, LOGITS)]
    mean = (exact[2].softmax(-1) * exact[0].prod(-1)).sum()
    wanted = torch.autograd.grad(mean, exact, allow_unused=True, materialize_grads=True)
    for samples, expected in zip(got, wanted, strict=True):
        z = (samples.mean(0) - expected) / (samples.std(0) / n**0.5)
        assert bool((z.abs() < 4.5).all())


def test_shared_scales_are_the_general_mixture() -> None:
    x = torch.tensor([0.3, 0.4], dtype=torch.float64)
    shared = MixtureOfDiagNormalsSharedCovariance(LOCS, SCALES[0], LOGITS)
    torch.testing.assert_close(
        shared.log_prob(x), MixtureOfDiagNormals(LOCS, SCALES[0].expand(3, 2), LOGITS).log_prob(x)
    )


def test_scale_mixture_is_the_general_mixture() -> None:
    x, factors = torch.tensor([0.3, 0.4], dtype=torch.float64), torch.tensor([1.0, 2.0, 5.0]).double()
    scales = factors.unsqueeze(-1) * SCALES[0]
    general = MixtureOfDiagNormals(torch.zeros(3, 2).double(), scales, LOGITS)
    torch.testing.assert_close(
        GaussianScaleMixture(SCALES[0], LOGITS, factors).log_prob(x), general.log_prob(x)
    )


def test_weights_of_another_number_error() -> None:
    with pytest.raises(DistributionError, match="component_logits"):
        MixtureOfDiagNormals(LOCS, SCALES, torch.zeros(2))
