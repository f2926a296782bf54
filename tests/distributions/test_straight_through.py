from __future__ import annotations

from typing import Any

import pytest
import torch

from brancher.distributions import (
    Bernoulli,
    OneHotCategorical,
    RelaxedBernoulliStraightThrough,
    RelaxedOneHotCategoricalStraightThrough,
)

LOGITS = torch.tensor([[0.3, -1.0, 0.5], [0.0, 1.0, -2.0]])


@pytest.mark.parametrize(
    ("family", "plain"),
    [
        (RelaxedBernoulliStraightThrough, Bernoulli),
        (RelaxedOneHotCategoricalStraightThrough, OneHotCategorical),
    ],
)
class TestStraightThrough:
    def test_draws_are_exactly_discrete(self, family: Any, plain: Any) -> None:
        x = family(torch.tensor(0.3), logits=LOGITS).rsample(torch.Size([1000]))
        assert set(x.unique().tolist()) == {0.0, 1.0}

    def test_draws_pass_a_gradient(self, family: Any, plain: Any) -> None:
        logits = LOGITS.clone().requires_grad_()
        x = family(torch.tensor(0.3), logits=logits).rsample()
        weight = torch.arange(6.0).reshape(2, 3)
        assert torch.autograd.grad((x * weight).sum(), logits)[0].abs().sum() > 0

    def test_log_prob_is_the_mass_of_the_hard_value(self, family: Any, plain: Any) -> None:
        d = family(torch.tensor(0.3), logits=LOGITS)
        x = d.sample()
        torch.testing.assert_close(d.log_prob(x), plain(logits=LOGITS).log_prob(x))

    def test_frequencies_follow_the_probabilities(self, family: Any, plain: Any) -> None:
        # n = 20000, z < 4.5: false alarm 7e-6 an entry
        d = family(torch.tensor(0.3), logits=LOGITS)
        x = d.rsample(torch.Size([20_000]))
        z = (x.mean(0) - d.probs) / (d.probs * (1 - d.probs) / 20_000).sqrt()
        assert bool((z.abs() < 4.5).all())
