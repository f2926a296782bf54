"""Laplace laws with different tails left and right, sharp and smoothed by a normal."""

from __future__ import annotations

import math

import torch
from torch.distributions import constraints

from brancher.distributions.elementwise import Elementwise
from brancher.distributions.normal_tail import mills
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class AsymmetricLaplace(Elementwise):
    """Laplace law with scale ``scale * asymmetry`` on the left, ``scale / asymmetry`` on the right.

    Args:
        loc: mode.
        scale: > 0.
        asymmetry: > 0; above 1 the law leans to the left.

    Example:
        >>> AsymmetricLaplace(0.0, 1.0, 1.0).log_prob(torch.tensor([-2.0, 0.0]))
        tensor([-2.6931, -0.6931])
    """

    has_rsample = True
    loc: torch.Tensor
    scale: torch.Tensor
    asymmetry: torch.Tensor
    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "asymmetry": constraints.positive,
    }
    support = constraints.real

    def __init__(
        self,
        loc: Number,
        scale: Number,
        asymmetry: Number,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(validate_args, loc=loc, scale=scale, asymmetry=asymmetry)

    @property
    def left_scale(self) -> torch.Tensor:
        """Scale of the exponential tail below ``loc``."""
        return self.scale * self.asymmetry

    @property
    def right_scale(self) -> torch.Tensor:
        """Scale of the exponential tail above ``loc``."""
        return self.scale / self.asymmetry

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        left, right = self.left_scale, self.right_scale
        z = value - self.loc
        return -z.abs() / torch.where(z < 0, left, right) - (left + right).log()

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        left, right = self.left_scale, self.right_scale
        z = value - self.loc
        below = left * (z.clamp(max=0.0) / left).exp()
        above = left - right * (-z.clamp(min=0.0) / right).expm1()
        return torch.where(z < 0, below, above) / (left + right)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Value below which a draw falls with the given probability."""
        left, right = self.left_scale, self.right_scale
        total = left + right
        is_below = value * total < left
        below = left * (torch.where(is_below, value, 0.5) * total / left).log()
        above = -right * ((1.0 - torch.where(is_below, 0.5, value)) * total / right).log()
        return self.loc + torch.where(is_below, below, above)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably: the difference of two exponentials."""
        shape = self._extended_shape(torch.Size(sample_shape))
        left, right = self.scale.new_empty((2, *shape)).exponential_().unbind()
        return self.loc + self.right_scale * right - self.left_scale * left

    @property
    def mean(self) -> torch.Tensor:
        return self.loc + self.right_scale - self.left_scale

    @property
    def mode(self) -> torch.Tensor:
        return self.loc

    @property
    def variance(self) -> torch.Tensor:
        return self.left_scale**2 + self.right_scale**2

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        return (self.left_scale + self.right_scale).log() + 1.0


class SoftAsymmetricLaplace(Elementwise):
    """An asymmetric Laplace law plus normal noise of standard deviation ``scale * softness``.

    The density is smooth everywhere, so gradients of location parameters are too.

    Args:
        loc: location.
        scale: > 0.
        asymmetry: > 0; ratio that multiplies the left and divides the right scale.
        softness: > 0; standard deviation of the noise in units of ``scale``.

    Example:
        >>> SoftAsymmetricLaplace(0.0, 1.0).log_prob(torch.tensor(0.0))
        tensor(-1.3410)
    """

    has_rsample = True
    loc: torch.Tensor
    scale: torch.Tensor
    asymmetry: torch.Tensor
    softness: torch.Tensor
    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "asymmetry": constraints.positive,
        "softness": constraints.positive,
    }
    support = constraints.real

    def __init__(
        self,
        loc: Number,
        scale: Number,
        asymmetry: Number = 1.0,
        softness: Number = 1.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(validate_args, loc=loc, scale=scale, asymmetry=asymmetry, softness=softness)

    @property
    def left_scale(self) -> torch.Tensor:
        """Scale of the exponential part below ``loc``."""
        return self.scale * self.asymmetry

    @property
    def right_scale(self) -> torch.Tensor:
        """Scale of the exponential part above ``loc``."""
        return self.scale / self.asymmetry

    @property
    def soft_scale(self) -> torch.Tensor:
        """Standard deviation of the normal part."""
        return self.scale * self.softness

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        left, right, soft = self.left_scale, self.right_scale, self.soft_scale
        z = (value - self.loc) / soft
        on_right, on_left = _log_exponential_part(z, soft / right), _log_exponential_part(-z, soft / left)
        return torch.logaddexp(on_right, on_left) - (left + right).log()

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably: two exponentials and a normal."""
        shape = self._extended_shape(torch.Size(sample_shape))
        left, right = self.scale.new_empty((2, *shape)).exponential_().unbind()
        noise = torch.randn(shape, dtype=self.scale.dtype, device=self.scale.device)
        return self.loc + self.right_scale * right - self.left_scale * left + self.soft_scale * noise

    @property
    def mean(self) -> torch.Tensor:
        return self.loc + self.right_scale - self.left_scale

    @property
    def variance(self) -> torch.Tensor:
        return self.left_scale**2 + self.right_scale**2 + self.soft_scale**2


def _log_exponential_part(z: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Log of the integral of ``exp(-rate r)`` times the standard normal density at z - r, over r > 0.

    It is ``exp(rate^2 / 2 - rate z) Phi(z - rate)``; left of z = rate the two factors cancel, and the
    Mills ratio replaces their product.
    """
    t = rate - z
    is_tail = t > 0
    tail = mills(torch.where(is_tail, t, 0.0)).log() - 0.5 * z * z - _HALF_LOG_2PI
    safe = torch.where(is_tail, 0.0, -t)
    bulk = rate * (0.5 * rate - z) + torch.special.log_ndtr(safe)
    return torch.where(is_tail, tail, bulk)
