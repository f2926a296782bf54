"""Pareto and GeneralizedPareto."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions import constraints
from brancher.distributions.base import Distribution
from brancher.distributions.gamma import Exponential
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, promote


class Pareto(td.Pareto, Distribution):
    """Power law above ``scale``.

    Args:
        scale: smallest value; > 0.
        alpha: exponent of the tail; > 0.

    Example:
        >>> Pareto(1.0, 2.0).log_prob(torch.tensor(1.0))
        tensor(0.6931)
    """

    def __init__(self, scale: Number, alpha: Number, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = promote(self, scale=scale, alpha=alpha)
        Distribution.__init__(self, self.scale.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def base_dist(self) -> Any:
        """The exponential law that is transformed."""
        return Exponential(self.alpha, validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """From an exponential draw to this law."""
        return [td.ExpTransform(), td.AffineTransform(0.0, self.scale)]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; -inf below ``scale``."""
        if self._validate_args:
            self._validate_sample(value)
        inside = value >= self.scale
        safe = torch.where(inside, value, self.scale)
        log_prob = self.alpha.log() - self.alpha * (safe / self.scale).log() - safe.log()
        return torch.where(inside, log_prob, -math.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        return -torch.expm1(-self.alpha * (value / self.scale).clamp(min=1.0).log())

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        return self.scale * (-(-value).log1p() / self.alpha).exp()


class GeneralizedPareto(td.GeneralizedPareto, Distribution):
    """Law of the excess over a high threshold.

    Args:
        loc: threshold.
        scale: width; > 0.
        concentration: shape; heavy tail above 0, bounded support below.

    Example:
        >>> GeneralizedPareto(0.0, 1.0, 0.0).log_prob(torch.tensor(1.0))
        tensor(-1.)
    """

    def __init__(
        self, loc: Number, scale: Number, concentration: Number, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.concentration = promote(
            self, loc=loc, scale=scale, concentration=concentration
        )
        Distribution.__init__(self, self.loc.shape, SCALAR, validate_args)

    expand = expand_parameters

    @td.constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From ``loc`` up, bounded for a negative concentration."""
        is_bounded = self.concentration < 0
        slope = torch.where(is_bounded, self.concentration, -1.0)
        upper = torch.where(is_bounded, self.loc - self.scale / slope, math.inf)
        return constraints.extended_interval(self.loc, upper)

    def _log_growth(self, z: torch.Tensor) -> torch.Tensor:
        """Minus the log of the survival function: log(1 + c z) / c, and z for c = 0."""
        c = self.concentration
        # An exponential law has no upper end; beyond that of another nothing survives.
        x = torch.where((c == 0) & z.isinf(), 0.0, c * z).clamp(min=-1.0)
        # For small c z the quotient is a short series, right at c = 0 and continuous with it.
        near = x.abs() < 1e-4
        direct = torch.log1p(torch.where(near, 1.0, x)) / torch.where(near, 1.0, c)
        x = torch.where(near, x, 0.0)
        series = z * (1.0 - x * (0.5 - x * (1.0 / 3.0 - x * (0.25 - x * 0.2))))
        return torch.where(near, series, direct)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        z, c = (value - self.loc) / self.scale, self.concentration
        inside = (z >= 0) & (c * z >= -1.0)
        growth = self._log_growth(torch.where(inside, z, 0.0))
        # At the upper end the growth is infinite, and the density of a uniform law is not zero.
        decline = torch.where((c == -1.0) & growth.isinf(), 0.0, (1.0 + c) * growth)
        return torch.where(inside, -self.scale.log() - decline, -math.inf)

    def log_survival_function(self, value: torch.Tensor) -> torch.Tensor:
        """Log of the probability above ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return -self._log_growth(((value - self.loc) / self.scale).clamp(min=0.0))

    def log_cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Log of the distribution function."""
        return self.cdf(value).log()

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        return -torch.expm1(self.log_survival_function(value))

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        growth, c = -torch.log1p(-value), self.concentration
        x = torch.where((c == 0) & growth.isinf(), 0.0, c * growth)
        near = x.abs() < 1e-4
        direct = torch.expm1(torch.where(near, 1.0, x)) / torch.where(near, 1.0, c)
        x = torch.where(near, x, 0.0)
        series = growth * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x / 120.0))))
        return self.loc + self.scale * torch.where(near, series, direct)
