"""Count laws that accept every integer, with probability zero where the law has none."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from brancher.distributions.beta_binomial import BetaBinomial
from brancher.distributions.constraints import integer
from brancher.distributions.counts import Binomial
from brancher.distributions.shapes import Size


class ExtendedBinomial(Binomial):
    """Binomial law whose support is every integer, and whose ``total_count`` may be negative.

    Values outside 0 to ``total_count`` have log-probability -inf instead of being refused, and
    gradients there are zero. Useful where counts come from differences.

    Args:
        total_count: number of trials; any integer, a negative one allows no value.
        probs: probability of success; or
        logits: its log-odds.

    Example:
        >>> ExtendedBinomial(2, 0.5).log_prob(torch.tensor([-1.0, 1.0]))
        tensor([   -inf, -0.6931])
    """

    has_enumerate_support = False
    arg_constraints = {**Binomial.arg_constraints, "total_count": integer}

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """Every integer."""
        return integer

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats; -inf outside 0 to ``total_count``."""
        if self._validate_args:
            self._validate_sample(value)
        count, total = torch.broadcast_tensors(value.to(self._param.dtype), self.total_count)
        is_inside = (count >= 0) & (count <= total)
        count, total = torch.where(is_inside, count, 0.0), torch.where(is_inside, total, 0.0)
        log_prob = self._log_of_counts(count, total - count)
        return torch.where(is_inside, log_prob, -torch.inf)

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw successes; none where ``total_count`` is negative."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            return torch.binomial(self.total_count.clamp(min=0).expand(shape), self.probs.expand(shape))


class ExtendedBetaBinomial(BetaBinomial):
    """Beta-binomial law whose support is every integer, and whose ``total_count`` may be negative.

    See ``ExtendedBinomial``.

    Args:
        concentration1: of the Beta law, for successes; > 0.
        concentration0: of the Beta law, for failures; > 0.
        total_count: number of trials; any integer, a negative one allows no value.

    Example:
        >>> ExtendedBetaBinomial(1.0, 1.0, 3).log_prob(torch.tensor([4.0, 2.0]))
        tensor([   -inf, -1.3863])
    """

    has_enumerate_support = False
    arg_constraints = {**BetaBinomial.arg_constraints, "total_count": integer}

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """Every integer."""
        return integer
