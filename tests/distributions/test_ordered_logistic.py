from __future__ import annotations

import pytest
import torch

from brancher.distributions import Categorical, OrderedLogistic
from brancher.errors import DistributionError


def test_masses_are_differences_of_sigmoids() -> None:
    eta, cuts = torch.tensor([[0.5], [-2.0]]).double(), torch.tensor([-1.0, 0.0, 2.0]).double()
    below = torch.sigmoid(cuts - eta)
    ends = torch.zeros(2, 1).double(), torch.ones(2, 1).double()
    expected = torch.cat([ends[0], below, ends[1]], -1).diff()
    torch.testing.assert_close(OrderedLogistic(eta.squeeze(-1), cuts).probs, expected)


def test_far_category_keeps_its_digits() -> None:
    # a difference of sigmoids is 1 - 1 = 0 here: log(s(41) s(-40) (1 - exp(-1)))
    d = OrderedLogistic(torch.tensor(-40.0).double(), torch.tensor([0.0, 1.0]).double())
    expected = -40.0 + torch.log(-torch.expm1(torch.tensor(-1.0).double()))
    torch.testing.assert_close(d.log_prob(torch.tensor(1)), expected)


def test_narrow_category_keeps_its_digits() -> None:
    d = OrderedLogistic(torch.tensor(0.0).double(), torch.tensor([0.0, 1e-15]).double())
    torch.testing.assert_close(d.log_prob(torch.tensor(1)), torch.tensor(0.25e-15).double().log())


def test_shapes_broadcast() -> None:
    d = OrderedLogistic(torch.zeros(5, 1), torch.tensor([[-1.0, 1.0], [0.0, 3.0]]))
    assert d.batch_shape == (5, 2)
    assert d.expand((4, 5, 2)).sample().shape == (4, 5, 2)


def test_cutpoints_out_of_order_error() -> None:
    with pytest.raises(DistributionError, match="cutpoints"):
        OrderedLogistic(torch.tensor(0.0), torch.tensor([1.0, 0.0]))


def test_no_cutpoint_error() -> None:
    with pytest.raises(DistributionError, match="cutpoints"):
        OrderedLogistic(torch.tensor(0.0), torch.zeros(0))


def test_density_of_a_value_is_that_of_the_table_of_masses() -> None:
    torch.manual_seed(0)
    predictor = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    cutpoints = torch.randn(5, dtype=torch.float64).sort()[0].requires_grad_()
    d = OrderedLogistic(predictor, cutpoints)
    value = torch.randint(6, (7, 4, 3))
    got, table = d.log_prob(value), Categorical(logits=d.logits).log_prob(value)
    torch.testing.assert_close(got, table)
    slopes = [torch.autograd.grad(total.sum(), (predictor, cutpoints)) for total in (got, table)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)
