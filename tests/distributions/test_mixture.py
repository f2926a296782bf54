"""Mixtures of components of one family."""

from __future__ import annotations

import torch

from brancher import validation_enabled
from brancher.distributions import Categorical, MixtureSameFamily, Normal, Uniform


def test_gradient_at_a_weight_of_zero_is_the_one_beside_it():
    def slopes(weights):
        probs = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
        locs = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
        mixture = MixtureSameFamily(Categorical(probs), Normal(locs, 1.0))
        value = mixture.log_prob(torch.tensor([0.3, 2.0], dtype=torch.float64))
        return value.detach(), torch.autograd.grad(value.sum(), probs)[0]

    at_zero, beside = slopes([0.0, 0.4, 0.6]), slopes([1e-9, 0.4, 0.6])
    for found, expected in zip(at_zero, beside, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_slope_where_the_component_of_weight_zero_has_no_density():
    probs = torch.tensor([0.0, 1.0], requires_grad=True)
    with validation_enabled(False):
        components = Uniform(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]))
        value = MixtureSameFamily(Categorical(probs), components).log_prob(torch.tensor(2.5))
    assert value == 0.0
    # log(p1 / (p0 + p1)) at (0, 1).
    assert torch.autograd.grad(value, probs)[0].tolist() == [-1.0, 0.0]
