"""Uniform."""

from __future__ import annotations

import math

import torch
from torch import distributions as td

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, promote
from brancher.errors import DistributionError


class Uniform(td.Uniform, Distribution):
    """Uniform law on the closed interval from ``low`` to ``high``.

    Args:
        low: lower end.
        high: upper end; > low.

    Example:
        >>> Uniform(0.0, 2.0).log_prob(torch.tensor([0.0, 2.0]))
        tensor([-0.6931, -0.6931])
    """

    # Each end bounds the other; the constructor compares them, so that both are named.
    arg_constraints = {
        "low": td.constraints.dependent(is_discrete=False, event_dim=0),
        "high": td.constraints.dependent(is_discrete=False, event_dim=0),
    }

    def __init__(self, low: Number, high: Number, validate_args: bool | None = None) -> None:
        self.low, self.high = promote(self, low=low, high=high)
        Distribution.__init__(self, self.low.shape, SCALAR, validate_args)
        if self._validate_args:
            self._check_order()

    expand = expand_parameters

    def _check_order(self) -> None:
        valid = self.low < self.high
        if not bool(valid.all()):
            bad = tuple((~valid).nonzero()[0].tolist())
            raise DistributionError(
                f"Uniform: expected parameter 'low' below 'high', got low {self.low[bad].item()} and "
                f"high {self.high[bad].item()}; swap them or widen the interval"
            )

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; -inf outside the interval."""
        if self._validate_args:
            self._validate_sample(value)
        inside = (value >= self.low) & (value <= self.high)
        return torch.where(inside, -(self.high - self.low).log(), -math.inf)
