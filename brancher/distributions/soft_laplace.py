"""SoftLaplace: smooth at its mode, exponential in the tails."""

from __future__ import annotations

import math

import torch
from torch.distributions import constraints

from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.distributions.special import lower_upper


class SoftLaplace(Elementwise):
    """Hyperbolic secant law: Laplace-like tails ``exp(-|x - loc| / scale)`` and a smooth mode.

    Args:
        loc: mean, median and mode.
        scale: > 0; the standard deviation is pi / 2 times it.

    Example:
        >>> round(float(SoftLaplace(0.0, 1.0).log_prob(torch.tensor(0.0)).exp() * math.pi), 4)
        1.0
    """

    has_rsample = True
    loc: torch.Tensor
    scale: torch.Tensor
    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(
        self,
        loc: Number,
        scale: Number,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(validate_args, loc=loc, scale=scale)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        z = ((value - self.loc) / self.scale).abs()
        return math.log(2.0 / math.pi) - self.scale.log() - z - (-2.0 * z).exp().log1p()

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        tail = (2.0 / math.pi) * (-z.abs()).exp().atan()
        return torch.where(z < 0, tail, 1.0 - tail)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Value below which a draw falls with the given probability."""
        _, tail, sign = lower_upper(value)
        return self.loc - self.scale * sign * (tail * (0.5 * math.pi)).tan().log()

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably, by inversion."""
        return self.icdf(self._uniform(sample_shape))

    @property
    def mean(self) -> torch.Tensor:
        return self.loc

    @property
    def mode(self) -> torch.Tensor:
        return self.loc

    @property
    def variance(self) -> torch.Tensor:
        return (0.5 * math.pi * self.scale) ** 2

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        return self.scale.log() + math.log(2.0 * math.pi)
