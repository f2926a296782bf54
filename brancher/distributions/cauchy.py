"""Cauchy and HalfCauchy."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, held, promote
from brancher.distributions.shapes import Size
from brancher.distributions.special import lower_upper

_LOG_PI = math.log(math.pi)
_LOG_HALF_PI = math.log(0.5 * math.pi)


class Cauchy(td.Cauchy, Distribution):
    """Cauchy law; support the reals, no moments.

    Args:
        loc: median.
        scale: half width at half maximum; > 0.

    Example:
        >>> Cauchy(0.0, 1.0).log_prob(torch.tensor(0.0))
        tensor(-1.1447)
    """

    def __init__(self, loc: Number, scale: Number, validate_args: bool | None = None) -> None:
        self.loc, self.scale = promote(self, loc=loc, scale=scale)
        Distribution.__init__(self, self.loc.shape, SCALAR, validate_args)

    expand = expand_parameters

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        return _log_scaled_density(value - self.loc, self.scale) - _LOG_PI

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function, accurate in the lower tail."""
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return torch.atan2(torch.ones_like(z), -z) / math.pi

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        _, tail, sign = lower_upper(value)
        return self.loc + self.scale * sign / torch.tan(math.pi * tail)


class HalfCauchy(td.HalfCauchy, Distribution):
    """Absolute value of a Cauchy draw with median 0; support the reals >= 0.

    Args:
        scale: median; > 0.

    Example:
        >>> HalfCauchy(1.0).log_prob(torch.tensor([0.0, 1.0]))
        tensor([-0.4516, -1.1447])
    """

    scale: torch.Tensor = held()

    def __init__(self, scale: Number, validate_args: bool | None = None) -> None:
        (self.scale,) = promote(self, scale=scale)
        Distribution.__init__(self, self.scale.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def base_dist(self) -> Any:
        """The Cauchy law that is folded."""
        return Cauchy(torch.zeros_like(self.scale), self.scale, validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """The folding."""
        return [td.AbsTransform()]

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw ``scale * |noise|``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.empty(shape, dtype=self.scale.dtype, device=self.scale.device).cauchy_()
        return self.scale * noise.abs()

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; finite at 0, -inf below."""
        if self._validate_args:
            self._validate_sample(value)
        density = _log_scaled_density(value, self.scale) - _LOG_HALF_PI
        return torch.where(value >= 0, density, -math.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.atan(value.clamp(min=0) / self.scale) * (2.0 / math.pi)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        is_lower, tail, _ = lower_upper(value)
        tangent = torch.tan(0.5 * math.pi * tail)
        return self.scale * torch.where(is_lower, tangent, tangent.reciprocal())


def _log_scaled_density(distance: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """log(s / (s^2 + d^2)), without a quotient or square that could overflow."""
    return scale.log() - 2.0 * torch.hypot(distance, scale).log()
