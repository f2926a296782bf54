from __future__ import annotations

import pytest
import torch

from brancher.distributions import LogNormal, MaskedMixture, Normal, Poisson
from brancher.errors import DistributionError, DistributionTypeError

MASK = torch.tensor([False, True])


def test_log_prob_follows_the_mask() -> None:
    d = MaskedMixture(MASK, Normal(0.0, 1.0), LogNormal(0.0, 1.0))
    value = torch.tensor([-1.0, 2.0])
    expected = [Normal(0.0, 1.0).log_prob(value[0]), LogNormal(0.0, 1.0).log_prob(value[1])]
    assert d.log_prob(value).tolist() == pytest.approx([e.item() for e in expected])


def test_value_impossible_under_the_other_law_leaves_its_gradient_clean() -> None:
    loc, value = torch.tensor(0.0, requires_grad=True), torch.tensor([-1.0, 2.0], requires_grad=True)
    d = MaskedMixture(MASK, Normal(0.0, 1.0), LogNormal(loc, 1.0))
    gradients = torch.autograd.grad(d.log_prob(value).sum(), [loc, value])
    assert all(bool(g.isfinite().all()) for g in gradients)


def test_support_follows_the_mask() -> None:
    d = MaskedMixture(MASK, Normal(0.0, 1.0), LogNormal(0.0, 1.0))
    assert d.support.check(torch.tensor([-1.0, -1.0])).tolist() == [True, False]


def test_events_are_masked_whole() -> None:
    d = MaskedMixture(MASK, Normal(torch.zeros(3), 1.0).to_event(1), Normal(torch.ones(3), 1.0).to_event(1))
    assert d.mean.tolist() == [[0.0] * 3, [1.0] * 3]
    assert d.rsample(torch.Size([4])).shape == (4, 2, 3)


def test_mask_of_numbers_error() -> None:
    with pytest.raises(DistributionTypeError, match="bool tensor"):
        MaskedMixture(torch.ones(2), Normal(0.0, 1.0), Normal(0.0, 1.0))


def test_components_of_other_events_error() -> None:
    with pytest.raises(DistributionError, match="one event shape"):
        MaskedMixture(MASK, Normal(0.0, 1.0), Normal(torch.zeros(2), 1.0).to_event(1))


def test_discrete_and_continuous_component_error() -> None:
    with pytest.raises(DistributionError, match="two discrete or two continuous"):
        MaskedMixture(MASK, Normal(0.0, 1.0), Poisson(1.0))
