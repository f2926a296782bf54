"""The normal family: Normal, HalfNormal, LogNormal."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, held, promote
from brancher.distributions.shapes import Size
from brancher.distributions.special import HALF_LOG_2PI, lower_upper, normal_cdf

_HALF_NORMAL_CONSTANT = math.log(2.0) - HALF_LOG_2PI


class Normal(td.Normal, Distribution):
    """Normal law with mean ``loc`` and standard deviation ``scale``; support the reals.

    Args:
        loc: mean.
        scale: standard deviation; > 0.

    Example:
        >>> Normal(0.0, 1.0).log_prob(torch.tensor(0.0))
        tensor(-0.9189)
    """

    def __init__(self, loc: Number, scale: Number, validate_args: bool | None = None) -> None:
        self.loc, self.scale = promote(self, loc=loc, scale=scale)
        Distribution.__init__(self, self.loc.shape, SCALAR, validate_args)

    expand = expand_parameters

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw ``loc + scale * noise``, shape sample_shape + B."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).normal_()
        return torch.addcmul(self.loc, noise, self.scale)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return torch.addcmul(-HALF_LOG_2PI - self.scale.log(), z, z, value=-0.5)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function, accurate in the lower tail."""
        if self._validate_args:
            self._validate_sample(value)
        return normal_cdf((value - self.loc) / self.scale)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        quantile: torch.Tensor = self.loc + self.scale * torch.special.ndtri(value)
        return quantile


class HalfNormal(td.HalfNormal, Distribution):
    """Absolute value of a normal draw with mean 0; support the reals >= 0.

    Args:
        scale: standard deviation of the normal; > 0.

    Example:
        >>> HalfNormal(1.0).log_prob(torch.tensor(0.0))
        tensor(-0.2258)
    """

    scale: torch.Tensor = held()

    def __init__(self, scale: Number, validate_args: bool | None = None) -> None:
        (self.scale,) = promote(self, scale=scale)
        Distribution.__init__(self, self.scale.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def base_dist(self) -> Any:
        """The normal that is folded."""
        return Normal(torch.zeros_like(self.scale), self.scale, validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """The folding."""
        return [td.AbsTransform()]

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw ``scale * |noise|``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.empty(shape, dtype=self.scale.dtype, device=self.scale.device).normal_()
        return self.scale * noise.abs()

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; finite at 0, -inf below."""
        if self._validate_args:
            self._validate_sample(value)
        z = value / self.scale
        return torch.where(value >= 0, _HALF_NORMAL_CONSTANT - 0.5 * z * z - self.scale.log(), -math.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.erf(value.clamp(min=0) / (self.scale * math.sqrt(2.0)))

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        is_lower, _, _ = lower_upper(value)
        low = torch.erfinv(torch.where(is_lower, value, 0.5)) * math.sqrt(2.0)
        high = -torch.special.ndtri(0.5 * (1.0 - torch.where(is_lower, 0.5, value)))
        return self.scale * torch.where(is_lower, low, high)


class LogNormal(td.LogNormal, Distribution):
    """Exponential of a normal draw; support the positive reals.

    Args:
        loc: mean of the logarithm.
        scale: standard deviation of the logarithm; > 0.

    Example:
        >>> LogNormal(0.0, 1.0).log_prob(torch.tensor(1.0))
        tensor(-0.9189)
    """

    loc: torch.Tensor = held()
    scale: torch.Tensor = held()

    def __init__(self, loc: Number, scale: Number, validate_args: bool | None = None) -> None:
        self.loc, self.scale = promote(self, loc=loc, scale=scale)
        Distribution.__init__(self, self.loc.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def base_dist(self) -> Any:
        """The normal law of the logarithm."""
        return Normal(self.loc, self.scale, validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """The exponential."""
        return [td.ExpTransform()]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        log_value = value.log()
        z = (log_value - self.loc) / self.scale
        return -0.5 * z * z - (self.scale.log() + HALF_LOG_2PI) - log_value
