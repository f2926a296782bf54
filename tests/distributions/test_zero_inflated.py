from __future__ import annotations

import pytest
import torch

from brancher.distributions import (
    Binomial,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    ZeroInflatedDistribution,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from brancher.errors import DistributionError

COUNTS = torch.arange(6, dtype=torch.float64)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_closed_gate_is_the_base() -> None:
    rate = double(2.0)
    d = ZeroInflatedPoisson(rate, gate=0.0)
    torch.testing.assert_close(d.log_prob(COUNTS), Poisson(rate).log_prob(COUNTS))


def test_closed_gate_is_the_base_where_the_base_can_not_be_zero() -> None:
    rate = double(900.0)  # exp(-900) underflows
    assert ZeroInflatedPoisson(rate, gate=0.0).log_prob(double(0.0)).item() == -900.0


def test_open_gate_is_always_zero() -> None:
    d = ZeroInflatedPoisson(double(2.0), gate=1.0)
    assert d.log_prob(COUNTS).exp().tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert bool((d.sample(torch.Size([50])) == 0).all())


@pytest.mark.parametrize("gate", [0.0, 1e-300, 0.3, 1.0])
def test_gradients_are_finite_at_zero(gate: float) -> None:
    gates, rate = double(gate).requires_grad_(), double(1e-3, 2.0, 20.0).requires_grad_()
    log_prob = ZeroInflatedPoisson(rate, gate=gates).log_prob(torch.zeros(3, dtype=torch.float64))
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(log_prob.sum(), [gates, rate]))


def test_gradient_of_a_closed_gate_is_exact() -> None:
    gate, rate = double(0.0).requires_grad_(), double(2.0)
    (slope,) = torch.autograd.grad(ZeroInflatedPoisson(rate, gate=gate).log_prob(double(0.0)).sum(), gate)
    torch.testing.assert_close(slope, torch.expm1(rate))


def test_logits_agree_with_probabilities() -> None:
    gate = double(0.2)
    by_gate = ZeroInflatedNegativeBinomial(3.0, probs=double(0.4), gate=gate)
    by_logits = ZeroInflatedNegativeBinomial(3.0, probs=double(0.4), gate_logits=gate.logit())
    torch.testing.assert_close(by_gate.log_prob(COUNTS), by_logits.log_prob(COUNTS))


@pytest.mark.parametrize("base", [Poisson(double(3.0)), NegativeBinomial(2.0, double(0.6))])
def test_moments_follow_from_the_masses(base: Poisson | NegativeBinomial) -> None:
    d = ZeroInflatedDistribution(base, gate=double(0.3))
    x = torch.arange(400, dtype=torch.float64)
    mass = d.log_prob(x).exp()
    mean = (mass * x).sum()
    torch.testing.assert_close(d.mean.squeeze(), mean)
    torch.testing.assert_close(d.variance.squeeze(), (mass * (x - mean) ** 2).sum())


def test_finite_base_is_enumerated() -> None:
    d = ZeroInflatedDistribution(Binomial(3, double(0.4)), gate=0.5)
    torch.testing.assert_close(d.log_prob(d.enumerate_support()).exp().sum(), torch.tensor(1.0).double())


def test_continuous_base_has_an_atom_at_zero() -> None:
    base = LogNormal(double(0.0), 1.0)
    d = ZeroInflatedDistribution(base, gate=0.25)
    expected = torch.cat([double(0.25).log(), double(0.75).log() + base.log_prob(double(2.0))])
    torch.testing.assert_close(d.log_prob(double(0.0, 2.0)), expected)


def test_continuous_base_gets_no_gradient_from_zeros() -> None:
    loc = double(0.0).requires_grad_()
    d = ZeroInflatedDistribution(LogNormal(loc, 1.0), gate=0.25)
    assert torch.autograd.grad(d.log_prob(double(0.0)).sum(), loc)[0].item() == 0.0


def test_gate_enlarges_the_batch() -> None:
    d = ZeroInflatedPoisson(torch.ones(2), gate=torch.full((3, 1), 0.5))
    assert d.batch_shape == (3, 2)
    assert d.expand((4, 3, 2)).sample().shape == (4, 3, 2)


@pytest.mark.parametrize("gates", [{}, {"gate": 0.5, "gate_logits": 0.0}])
def test_gate_given_never_or_twice_error(gates: dict[str, float]) -> None:
    with pytest.raises(DistributionError, match="exactly one of gate, gate_logits"):
        ZeroInflatedPoisson(1.0, **gates)  # type: ignore[arg-type]


def test_base_with_events_error() -> None:
    with pytest.raises(DistributionError, match="scalar events"):
        ZeroInflatedDistribution(Normal(torch.zeros(2), 1.0).to_event(1), gate=0.5)


def test_bad_rate_names_the_outer_law_error() -> None:
    with pytest.raises(DistributionError, match="ZeroInflatedPoisson: .*'rate'"):
        ZeroInflatedPoisson(torch.tensor(-1.0), gate=0.5)
