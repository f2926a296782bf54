"""Laplace."""

from __future__ import annotations

import torch
from torch import distributions as td

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, promote
from brancher.distributions.special import lower_upper


class Laplace(td.Laplace, Distribution):
    """Double exponential law; support the reals.

    Args:
        loc: median.
        scale: mean distance from it; > 0.

    Example:
        >>> Laplace(0.0, 1.0).log_prob(torch.tensor(0.0))
        tensor(-0.6931)
    """

    def __init__(self, loc: Number, scale: Number, validate_args: bool | None = None) -> None:
        self.loc, self.scale = promote(self, loc=loc, scale=scale)
        Distribution.__init__(self, self.loc.shape, SCALAR, validate_args)

    expand = expand_parameters

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        return -(value - self.loc).abs() / self.scale - (2.0 * self.scale).log()

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function, accurate in the lower tail."""
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        tail = 0.5 * torch.exp(-z.abs())
        return torch.where(z < 0, tail, 1.0 - tail)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        _, tail, sign = lower_upper(value)
        return self.loc - sign * self.scale * torch.log(2.0 * tail)
