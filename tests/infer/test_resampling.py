"""Resampling by Metropolis and Hastings, against the law that the weights stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from brancher import distributions as dist
from brancher import handlers, plate, sample
from brancher.errors import InferenceError
from brancher.infer import MHResampler, WeighedPredictive

Y = torch.tensor([0.8, 1.6])


def model(y: torch.Tensor | None = None) -> Any:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 2):
        return sample("y", dist.Normal(mu, 1.0), obs=y)


def guide(*args: Any) -> None:
    sample("mu", dist.Normal(0.0, 1.2))


def fitted() -> Any:
    return handlers.condition(model, {"y": Y})()


def test_draws_become_those_of_the_posterior() -> None:
    resampler = MHResampler(WeighedPredictive(model, guide=guide, num_samples=20_000))
    for _ in range(25):
        result = resampler(model_guide=fitted)
    # The posterior is N(0.8, 1/3): of 20 000 independent draws, five standard errors.
    mu = result.samples["mu"]
    assert mu.mean().item() == pytest.approx(0.8, abs=5 * (1 / 3 / 20_000) ** 0.5)
    assert mu.var().item() == pytest.approx(1 / 3, abs=5 * (1 / 3) * (2 / 20_000) ** 0.5)
    assert result.samples["y"].shape == (20_000, 2)
    assert 0 < resampler.get_min_sample_transition_count() <= 24
    assert resampler.get_total_transition_count() == resampler.transition_count.sum()


def test_weights_and_draws_move_together() -> None:
    resampler = MHResampler(WeighedPredictive(model, guide=guide, num_samples=50))
    for _ in range(5):
        result = resampler(model_guide=fitted)
    mu = result.samples["mu"]
    torch.testing.assert_close(result.guide_log_prob, dist.Normal(0.0, 1.2).log_prob(mu))
    torch.testing.assert_close(result.log_weights, result.model_log_prob - result.guide_log_prob)


def test_equal_weights_take_every_proposal() -> None:
    def alone() -> None:
        sample("mu", dist.Normal(0.0, 1.2))

    resampler = MHResampler(WeighedPredictive(alone, guide=guide, num_samples=30))
    first = resampler().samples["mu"]
    second = resampler().samples["mu"]
    assert resampler.get_total_transition_count() == 30 and bool((first != second).all())


def test_results_are_kept_as_asked() -> None:
    sampler = WeighedPredictive(model, guide=guide, num_samples=4)
    resampler = MHResampler(sampler, slice(None), slice(-2, None))
    results = [resampler(model_guide=fitted) for _ in range(3)]
    assert resampler.get_source_samples().log_weights.shape == (12,)
    stored = resampler.get_stored_samples()
    assert torch.equal(stored.samples["y"], torch.cat([r.samples["y"] for r in results[1:]]))


def test_values_alone_are_resampled_too() -> None:
    resampler = MHResampler(WeighedPredictive(model, guide=guide, num_samples=4).call)
    for _ in range(3):
        values: Any = resampler(model_guide=fitted).samples
    assert [tuple(value.shape) for value in values] == [(4,), (4, 2)]


def test_nothing_kept_error() -> None:
    resampler = MHResampler(WeighedPredictive(model, guide=guide, num_samples=4))
    resampler(model_guide=fitted)
    with pytest.raises(InferenceError, match="results that were kept, got none"):
        resampler.get_stored_samples()


def test_another_number_of_draws_error() -> None:
    sizes = iter([3, 4])
    resampler = MHResampler(
        lambda: WeighedPredictive(model, guide=guide, num_samples=next(sizes))(model_guide=fitted)
    )
    resampler()
    with pytest.raises(InferenceError, match="expected 3 draws as before, got 4"):
        resampler()
