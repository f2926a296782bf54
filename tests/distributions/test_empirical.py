from __future__ import annotations

import pytest
import torch

from brancher.distributions import Empirical
from brancher.errors import DistributionError, DistributionTypeError

SAMPLES = torch.tensor([[0.5, 1.0, 1.0], [2.0, 3.0, 4.0]])
WEIGHTS = torch.tensor([[0.0, 1.0, -1.0], [0.0, 0.0, 0.0]])


def test_equal_draws_add_their_masses() -> None:
    d = Empirical(SAMPLES, WEIGHTS)
    expected = WEIGHTS[0].softmax(-1)[1:].sum().log()
    torch.testing.assert_close(d.log_prob(torch.tensor([1.0, 3.0]))[0], expected)


def test_a_value_never_drawn_is_impossible() -> None:
    assert Empirical(SAMPLES, WEIGHTS).log_prob(torch.tensor(9.0)).tolist() == [-torch.inf] * 2


def test_moments_are_weighted() -> None:
    d = Empirical(SAMPLES, WEIGHTS)
    mass = WEIGHTS.softmax(-1)
    mean = (mass * SAMPLES).sum(-1)
    torch.testing.assert_close(d.mean, mean)
    torch.testing.assert_close(d.variance, (mass * SAMPLES**2).sum(-1) - mean**2)


def test_frequencies_of_draws_follow_the_weights() -> None:
    # n = 20000, z < 4.5: false alarm 7e-6
    d = Empirical(SAMPLES, WEIGHTS)
    x = d.sample(torch.Size([20_000]))
    z = (x.mean(0) - d.mean) / (d.variance / 20_000).sqrt()
    assert bool((z.abs() < 4.5).all())


def test_vectors_are_drawn_whole() -> None:
    samples = torch.arange(12.0).reshape(2, 3, 2)
    d = Empirical(samples, torch.zeros(2, 3))
    x = d.sample(torch.Size([20]))
    assert (d.batch_shape, d.event_shape, x.shape) == ((2,), (2,), (20, 2, 2))
    assert bool((x[..., 1] - x[..., 0] == 1).all())
    torch.testing.assert_close(d.log_prob(x), torch.full((20, 2), 1 / 3).log())


def test_weights_default_to_equal() -> None:
    assert Empirical(torch.tensor([1.0, 3.0])).mean.item() == 2.0


def test_expanded_copies_draw_independently() -> None:
    x = Empirical(torch.arange(1000.0)).expand((50,)).sample()
    assert x.shape == (50,) and len(x.unique()) > 1


def test_weights_of_another_shape_error() -> None:
    with pytest.raises(DistributionError, match="log_weights"):
        Empirical(SAMPLES, torch.zeros(3))


def test_samples_that_are_no_tensor_error() -> None:
    with pytest.raises(DistributionTypeError, match="samples"):
        Empirical([1.0, 2.0])  # type: ignore[arg-type]
