from __future__ import annotations

import pytest
import torch

from brancher import handlers, plate, sample
from brancher.distributions import (
    MultivariateNormal,
    NanMaskedMultivariateNormal,
    NanMaskedNormal,
    Normal,
)

NAN = float("nan")
LOC = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[2.0, 0.5, 0.3], [0.5, 1.0, -0.2], [0.3, -0.2, 3.0]], dtype=torch.float64)
VALUE = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)


@pytest.mark.parametrize("seen", [[0, 1, 2], [0, 2], [1]])
def test_missing_entries_are_integrated_out(seen: list[int]) -> None:
    value = torch.full_like(VALUE, NAN)
    value[seen] = VALUE[seen]
    marginal = MultivariateNormal(LOC[seen], COVARIANCE[seen][:, seen])
    actual = NanMaskedMultivariateNormal(LOC, COVARIANCE).log_prob(value)
    torch.testing.assert_close(actual, marginal.log_prob(VALUE[seen]))


def test_rows_may_miss_different_entries() -> None:
    value = VALUE.expand(2, 3).clone()
    value[0, 0], value[1] = NAN, NAN
    log_prob = NanMaskedMultivariateNormal(LOC, COVARIANCE).log_prob(value)
    assert log_prob.shape == (2,)
    assert log_prob[1].item() == 0.0


def test_missing_entries_reach_no_gradient_of_a_matrix() -> None:
    loc, tril = LOC.clone().requires_grad_(), torch.linalg.cholesky(COVARIANCE).requires_grad_()
    value = torch.tensor([NAN, 0.2, NAN], dtype=torch.float64)
    log_prob = NanMaskedMultivariateNormal(loc, scale_tril=tril).log_prob(value)
    gradients = torch.autograd.grad(log_prob, [loc, tril])
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert gradients[0][[0, 2]].tolist() == [0.0, 0.0]


def test_missing_numbers_reach_no_gradient() -> None:
    loc = torch.zeros(2, requires_grad=True)
    log_prob = NanMaskedNormal(loc, 1.0).log_prob(torch.tensor([1.0, NAN]))
    assert torch.autograd.grad(log_prob.sum(), loc)[0].tolist() == [1.0, 0.0]
    assert log_prob[0].item() == Normal(0.0, 1.0).log_prob(torch.tensor(1.0)).item()


@pytest.mark.parametrize("to_event", [False, True])
def test_observed_data_may_miss_entries(to_event: bool) -> None:
    data = torch.tensor([0.5, NAN, -1.0])

    def model() -> None:
        law = NanMaskedNormal(0.0, 1.0).expand([3])
        with plate("row", 1 if to_event else 3):
            sample("y", law.expand([1, 3]).to_event(1) if to_event else law, obs=data)

    expected = Normal(0.0, 1.0).log_prob(data[[0, 2]]).sum()
    found = handlers.trace(model).get_trace().log_prob_sum()
    torch.testing.assert_close(found, expected)
