"""Laws of extremes: Gumbel and Weibull."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions import constraints
from brancher.distributions.base import Distribution
from brancher.distributions.gamma import Exponential
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, promote
from brancher.distributions.shapes import Size
from brancher.distributions.uniform import Uniform


class Gumbel(td.Gumbel, Distribution):
    """Gumbel law of maxima; support the reals.

    Args:
        loc: mode.
        scale: width; > 0.

    Example:
        >>> Gumbel(0.0, 1.0).log_prob(torch.tensor(0.0))
        tensor(-1.)
    """

    def __init__(self, loc: Number, scale: Number, validate_args: bool | None = None) -> None:
        self.loc, self.scale = promote(self, loc=loc, scale=scale)
        Distribution.__init__(self, self.loc.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def base_dist(self) -> Any:
        """The uniform law that is transformed."""
        limits = torch.finfo(self.loc.dtype)
        low = torch.full_like(self.loc, limits.tiny)
        return Uniform(low, torch.full_like(self.loc, 1.0 - limits.eps), validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """From a uniform draw to this law."""
        return [
            td.ExpTransform().inv,
            td.AffineTransform(0.0, -torch.ones_like(self.scale)),
            td.ExpTransform().inv,
            td.AffineTransform(self.loc, -self.scale),
        ]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        y = (self.loc - value) / self.scale
        return y - y.exp() - self.scale.log()

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.exp(-torch.exp((self.loc - value) / self.scale))

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        return self.loc - self.scale * torch.log(-value.log())


class Weibull(td.Weibull, Distribution):
    """Weibull law of lifetimes; support the reals >= 0.

    Args:
        scale: 63 % quantile; > 0.
        concentration: shape; > 0.

    Example:
        >>> Weibull(1.0, 1.0).log_prob(torch.tensor(1.0))
        tensor(-1.)
    """

    # The density is finite at 0 for a concentration of 1 and more.
    support = constraints.nonnegative  # type: ignore[assignment]

    def __init__(self, scale: Number, concentration: Number, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = promote(self, scale=scale, concentration=concentration)
        Distribution.__init__(self, self.scale.shape, SCALAR, validate_args)

    expand = expand_parameters

    @property
    def concentration_reciprocal(self) -> torch.Tensor:  # type: ignore[override]
        """Inverse of the shape."""
        return self.concentration.reciprocal()

    @property
    def variance(self) -> torch.Tensor:
        k = self.concentration_reciprocal
        excess = torch.lgamma(1.0 + 2.0 * k) - 2.0 * torch.lgamma(1.0 + k)
        return self.mean.square() * excess.expm1()  # the difference of two moments may overflow

    @lazy_property
    def base_dist(self) -> Any:
        """The exponential law that is transformed."""
        return Exponential(torch.ones_like(self.scale), validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """From a standard exponential draw to this law."""
        return [td.PowerTransform(self.concentration_reciprocal), td.AffineTransform(0.0, self.scale)]

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw a power of an exponential draw."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.empty(shape, dtype=self.scale.dtype, device=self.scale.device).exponential_()
        return self.scale * noise.clamp(min=torch.finfo(noise.dtype).tiny) ** self.concentration_reciprocal

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        k, ratio = self.concentration, value / self.scale
        # At 0 the density is 0, finite or infinite, as the concentration is above, at or below 1.
        inside = ratio > 0
        ratio = torch.where(inside, ratio, torch.finfo(ratio.dtype).tiny)
        at_zero = torch.xlogy(k - 1.0, inside.to(ratio.dtype))
        return k.log() - self.scale.log() + (k - 1.0) * ratio.log() - ratio**k + at_zero

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        return -torch.expm1(-((value / self.scale) ** self.concentration))

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        return self.scale * (-torch.log1p(-value)) ** self.concentration_reciprocal
