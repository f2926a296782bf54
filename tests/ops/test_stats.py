"""Scores and weighted draws against their definitions."""

from __future__ import annotations

import pytest
import torch

from brancher.errors import InferenceError
from brancher.ops.stats import crps_empirical, energy_score_empirical, quantile, resample, weighed_quantile


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_crps_is_its_definition(count, shape):
    pred, truth = torch.randn(count, *shape), torch.randn(shape)
    spread = (pred.unsqueeze(0) - pred.unsqueeze(1)).abs().mean((0, 1))
    torch.testing.assert_close(crps_empirical(pred, truth), (pred - truth).abs().mean(0) - spread / 2)


def test_crps_of_a_normal_law():
    # E|x| - E|x - x'| / 2 at truth 0: sqrt(2 / pi) - 1 / sqrt(pi). The error at 2e5 draws is about 0.002.
    score = crps_empirical(torch.randn(200_000), torch.tensor(0.0))
    assert float(score) == pytest.approx((2 / torch.pi) ** 0.5 - torch.pi**-0.5, abs=0.008)


def test_energy_score_of_numbers_is_the_crps():
    pred, truth = torch.randn(9), torch.randn(())
    torch.testing.assert_close(
        energy_score_empirical(pred[:, None], truth[None]), crps_empirical(pred, truth)
    )


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_energy_score_is_its_definition(batch):
    pred, truth = torch.randn(5, 9, 2), torch.randn(5, 3, 2)
    error = (pred.unsqueeze(2) - truth.unsqueeze(1)).norm(dim=-1).mean(1)
    spread = (pred.unsqueeze(2) - pred.unsqueeze(1)).norm(dim=-1).mean((1, 2))
    expected = error - spread.unsqueeze(-1) / 2
    torch.testing.assert_close(energy_score_empirical(pred, truth, batch), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        energy_score_empirical(pred, truth[:, 0], batch), expected[:, 0], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_quantile_of_equal_weights_is_the_plain_one(dim):
    draws = torch.randn(6, 5, 4)
    weights = torch.full((draws.shape[dim],), -3.0)
    for probs in (0.3, [0.0, 0.25, 1.0]):
        torch.testing.assert_close(weighed_quantile(draws, probs, weights, dim), quantile(draws, probs, dim))


def test_weighed_quantile_by_hand():
    draws = torch.tensor([[10.0, 50.0, 40.0], [20.0, 30.0, 0.0]])
    found = weighed_quantile(draws, [0.2, 0.8], torch.tensor([0.4, 0.5, 0.1]).log(), -1)
    torch.testing.assert_close(found, torch.tensor([[40.4, 47.6], [9.0, 26.4]]))


def test_weighed_quantile_leaves_out_draws_of_no_weight():
    draws = torch.tensor([5.0, 1.0, 2.0, 3.0])
    weights = torch.tensor([0.0, 1.0, 1.0, 1.0]).log()
    torch.testing.assert_close(weighed_quantile(draws, [0.5, 0.75], weights), torch.tensor([2.0, 2.5]))


def test_single_draw_is_every_quantile():
    assert weighed_quantile(torch.tensor([2.0]), 0.3, torch.zeros(1)) == 2.0


def test_resample_draws_entries():
    table = torch.arange(12.0).reshape(3, 4)
    assert sorted(resample(table, 4, dim=1)[0].tolist()) == [0.0, 1.0, 2.0, 3.0]
    many = resample(table, 50, dim=0, replacement=True)
    assert many.shape == (50, 4) and {tuple(row) for row in many.tolist()} == {
        tuple(r) for r in table.tolist()
    }


def test_argument_errors():
    with pytest.raises(InferenceError, match="num_samples <= 3"):
        resample(torch.zeros(3), 4)
    with pytest.raises(InferenceError, match=r"draws of shape \(num_samples, \*\(2,\)\), got \(5, 3\)"):
        crps_empirical(torch.zeros(5, 3), torch.zeros(2))
    with pytest.raises(InferenceError, match="as many dimensions as the draws or one less"):
        energy_score_empirical(torch.zeros(5, 3), torch.zeros(()))
    with pytest.raises(InferenceError, match=r"expected values in \[0, 1\]"):
        weighed_quantile(torch.zeros(3), 2.0, torch.zeros(3))
    with pytest.raises(InferenceError, match="one a draw"):
        weighed_quantile(torch.zeros(3), 0.5, torch.zeros(2))
