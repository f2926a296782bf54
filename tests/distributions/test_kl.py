"""Divergences between families, wrappers and foreign distributions."""

from __future__ import annotations

import pytest
import torch

import brancher.distributions as dist
from brancher.distributions import kl_divergence

P = dist.Normal(torch.tensor([1.0, 2.0]), 1.0)
Q = dist.Normal(0.0, torch.tensor([1.0, 2.0]))


def monte_carlo(
    p: dist.Distribution, q: dist.Distribution, n: int = 100_000
) -> tuple[torch.Tensor, torch.Tensor]:
    x = p.sample(torch.Size([n]))
    terms = p.log_prob(x) - q.log_prob(x)
    return terms.mean(0), terms.std(0) / n**0.5


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (dist.Normal(1.0, 2.0), dist.Normal(0.0, 1.0)),
        (dist.Gamma(2.0, 3.0), dist.Gamma(1.0, 1.0)),
        (dist.Beta(2.0, 3.0), dist.Beta(1.0, 1.0)),
        (dist.Dirichlet(torch.tensor([1.0, 2.0])), dist.Dirichlet(torch.tensor([3.0, 1.0]))),
        (dist.Bernoulli(0.3), dist.Bernoulli(logits=1.0)),
        (dist.Categorical(torch.tensor([0.2, 0.8])), dist.Categorical(logits=torch.zeros(2))),
        (dist.Poisson(3.0), dist.Poisson(4.0)),
        (dist.HalfNormal(1.0), dist.HalfNormal(2.0)),
        (dist.LogNormal(0.0, 1.0), dist.LogNormal(1.0, 2.0)),
        (dist.Exponential(1.0), dist.Gamma(2.0, 1.0)),
        (dist.Laplace(0.0, 1.0), dist.Normal(0.0, 2.0)),
        (
            dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
            dist.MultivariateNormal(torch.ones(2), 2 * torch.eye(2)),
        ),
        (
            dist.Normal(torch.zeros(2), 2.0).to_event(1),
            dist.MultivariateNormal(torch.ones(2), torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
        ),
        (
            dist.MultivariateNormal(torch.ones(2), torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
            dist.Normal(torch.zeros(2), 2.0).to_event(1),
        ),
    ],
    ids=lambda d: type(d).__name__,
)
def test_divergence_equals_its_estimate(p: dist.Distribution, q: dist.Distribution) -> None:
    estimate, error = monte_carlo(p, q)
    # 14 comparisons at 5 standard errors: a false alarm in 1e5 seeds
    assert bool(((kl_divergence(p, q) - estimate).abs() < 5 * error + 1e-6).all())


def test_independent_sums() -> None:
    torch.testing.assert_close(kl_divergence(P.to_event(1), Q.to_event(1)), kl_divergence(P, Q).sum())


def test_independent_nested_differently() -> None:
    p = dist.Independent(dist.Independent(dist.Normal(torch.zeros(3, 2), 1.0), 1), 1)
    q = dist.Normal(torch.ones(3, 2), 1.0).to_event(2)
    assert float(kl_divergence(p, q)) == pytest.approx(3.0)


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_mask_zeroes(side: str) -> None:
    mask = torch.tensor([True, False])
    p = P.mask(mask) if side != "right" else P
    q = Q.mask(mask) if side != "left" else Q
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(P, Q) * mask)


def test_mask_inside_independent() -> None:
    mask = torch.tensor([True, False])
    got = kl_divergence(P.mask(mask).to_event(1), Q.to_event(1))
    torch.testing.assert_close(got, kl_divergence(P, Q)[0])


def test_expanded() -> None:
    p = dist.ExpandedDistribution(dist.Normal(1.0, 1.0), torch.Size([3]))
    q = dist.Normal(0.0, 1.0)
    assert kl_divergence(p, q).tolist() == [0.5] * 3
    assert kl_divergence(q, p).tolist() == [0.5] * 3
    assert kl_divergence(p, p.mask(torch.tensor([True, False, True]))).tolist() == [0.0] * 3


def test_foreign_distributions_mix_with_ours() -> None:
    q = torch.distributions.Normal(0.0, 1.0)
    assert float(kl_divergence(dist.Normal(1.0, 1.0), q)) == 0.5
    assert float(torch.distributions.kl_divergence(dist.Normal(1.0, 1.0), q)) == 0.5


def test_bernoulli_at_certain_probabilities() -> None:
    p, q = dist.Bernoulli(torch.tensor([0.0, 1.0, 0.5])), dist.Bernoulli(torch.tensor([0.5, 0.5, 0.0]))
    assert kl_divergence(p, q).tolist() == [pytest.approx(0.6931472), pytest.approx(0.6931472), float("inf")]


def test_unregistered_pair_error() -> None:
    with pytest.raises(NotImplementedError, match="Cauchy and Dirichlet; register_kl"):
        kl_divergence(dist.Cauchy(0.0, 1.0), dist.Dirichlet(torch.ones(2)))
