"""Vector and matrix laws: parametrisations agree, gradients of draws, errors."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st
import torch

import brancher.distributions as dist
from brancher.errors import DistributionError

COV = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
LOC = torch.tensor([0.5, -1.0], dtype=torch.float64)


def test_multivariate_normal_equals_scipy() -> None:
    d = dist.MultivariateNormal(LOC, COV)
    x = d.sample(torch.Size([4, 5]))
    expected = st.multivariate_normal(LOC.numpy(), COV.numpy()).logpdf(x.numpy())
    np.testing.assert_allclose(d.log_prob(x).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_three_parametrisations_agree(batch: tuple[int, ...]) -> None:
    cov = COV.expand(*batch, 2, 2)
    x = torch.randn(5, *batch, 2, dtype=torch.float64)
    wanted = dist.MultivariateNormal(LOC, cov).log_prob(x)
    for other in (
        dist.MultivariateNormal(LOC, precision_matrix=torch.linalg.inv(cov)),
        dist.MultivariateNormal(LOC, scale_tril=torch.linalg.cholesky(cov)),
    ):
        torch.testing.assert_close(other.log_prob(x), wanted)


def test_low_rank_equals_dense() -> None:
    factor = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    diagonal = torch.tensor([1.0, 2.0], dtype=torch.float64)
    x = torch.randn(5, 2, dtype=torch.float64)
    dense = dist.MultivariateNormal(LOC, factor @ factor.mT + diagonal.diag())
    torch.testing.assert_close(
        dist.LowRankMultivariateNormal(LOC, factor, diagonal).log_prob(x), dense.log_prob(x)
    )


def test_pathwise_gradient_of_the_second_moment() -> None:
    """d E[x x'] / d L summed is L + L'; n = 200,000, |z| < 5 in three entries."""
    tril = torch.linalg.cholesky(COV)
    copies = tril.expand(200_000, 2, 2).clone().requires_grad_()
    x = dist.MultivariateNormal(torch.zeros(2, dtype=torch.float64), scale_tril=copies).rsample()
    (grads,) = torch.autograd.grad((x.unsqueeze(-1) * x.unsqueeze(-2)).sum(), copies)
    leaf = tril.clone().requires_grad_()
    (expected,) = torch.autograd.grad((leaf @ leaf.mT).sum(), leaf)
    z = (grads.mean(0) - expected) / (grads.std(0) / 200_000**0.5).clamp(min=1e-9)
    assert bool((z.tril().abs() < 5).all())


def test_wishart_gradient_of_the_mean() -> None:
    """Draws average to df * covariance, and so do their gradients; n = 100,000, |z| < 5 in 4 entries."""
    df = torch.full((100_000,), 5.0, dtype=torch.float64, requires_grad=True)
    x = dist.Wishart(df, COV).rsample()
    (grads,) = torch.autograd.grad(x[..., 0, 0].sum(), df)
    z = (grads.mean() - COV[0, 0]) / (grads.std() / 100_000**0.5)
    assert abs(float(z)) < 5


def test_not_positive_definite_error() -> None:
    with pytest.raises(DistributionError, match="MultivariateNormal: .*'covariance_matrix'"):
        dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]]))


@pytest.mark.parametrize(
    "build",
    [
        lambda: dist.MultivariateNormal(torch.tensor(0.0), torch.eye(2)),
        lambda: dist.MultivariateNormal(torch.zeros(3), torch.eye(2)),
        lambda: dist.MultivariateNormal(torch.zeros(2), torch.ones(2)),
        lambda: dist.MultivariateNormal(torch.zeros(2)),
        lambda: dist.LowRankMultivariateNormal(torch.zeros(3), torch.ones(2, 1), torch.ones(3)),
        lambda: dist.Dirichlet(torch.tensor(1.0)),
        lambda: dist.Categorical(torch.tensor(1.0)),
        lambda: dist.Wishart(3.0, torch.ones(2, 3)),
    ],
)
def test_shapes_that_do_not_fit_error(build: object) -> None:
    with pytest.raises(DistributionError, match="expected"):
        build()  # type: ignore[operator]


def test_multinomial_marginal_is_binomial() -> None:
    counts = torch.tensor([[float(k), 6.0 - k] for k in range(7)])
    got = dist.Multinomial(6, torch.tensor([0.3, 0.7])).log_prob(counts)
    torch.testing.assert_close(got, dist.Binomial(6, 0.3).log_prob(counts[:, 0]))


def test_one_hot_draws_trace_without_looking_at_values(unvalidated: None) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda p: dist.OneHotCategorical(p).sample())(torch.ones(3))
    assert float(graph(torch.tensor([0.0, 1.0, 0.0]))[1]) == 1.0
