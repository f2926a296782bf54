"""Gamma, Chi2, Exponential."""

from __future__ import annotations

import math

import torch
from torch import distributions as td

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, held, promote
from brancher.distributions.special import (
    is_small,
    log_gamma_kernel,
    log_minus_digamma,
    stirling_remainder,
    xlogy,
)


class Gamma(td.Gamma, Distribution):
    """Gamma law; support the reals >= 0.

    Args:
        concentration: shape; > 0.
        rate: inverse scale; > 0.

    Example:
        >>> Gamma(1.0, 2.0).log_prob(torch.tensor(0.0))
        tensor(0.6931)
    """

    def __init__(self, concentration: Number, rate: Number, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = promote(self, concentration=concentration, rate=rate)
        self._is_small = is_small(concentration)
        Distribution.__init__(self, self.concentration.shape, SCALAR, validate_args)

    expand = expand_parameters

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; right digits at concentrations of 1e8 and more."""
        if self._validate_args:
            self._validate_sample(value)
        if self._is_small:
            weighted = xlogy(self.concentration - 1.0, value) + self.concentration * self.rate.log()
            return weighted - self.rate * value - torch.lgamma(self.concentration)
        # At 0 the density is 0, the rate or infinite, as the concentration is above, at or below 1.
        inside = value > 0
        x = torch.where(inside, value, torch.finfo(self.rate.dtype).tiny)
        at_zero = torch.xlogy(self.concentration - 1.0, inside.to(x.dtype))
        log_x = x.log()
        return log_gamma_kernel(self.concentration, self.rate * x, self.rate.log() + log_x) - log_x + at_zero

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        a = self.concentration
        return stirling_remainder(a) + (a - 1.0) * log_minus_digamma(a) - self.rate.log()


class Chi2(Gamma, td.Chi2):
    """Sum of squares of ``df`` standard normal draws; support the reals >= 0.

    Args:
        df: degrees of freedom; > 0.

    Example:
        >>> Chi2(2.0).log_prob(torch.tensor(0.0))
        tensor(-0.6931)
    """

    arg_constraints = td.Chi2.arg_constraints
    df: torch.Tensor = held()

    def __init__(self, df: Number, validate_args: bool | None = None) -> None:
        (self.df,) = promote(self, df=df)
        self.concentration = 0.5 * self.df
        self.rate = torch.full_like(self.df, 0.5)
        self._is_small = is_small(df)
        Distribution.__init__(self, self.df.shape, SCALAR, validate_args)

    def expand(self, batch_shape: torch.Size, _instance: Chi2 | None = None) -> Chi2:  # type: ignore[override]
        """Return a copy for a larger batch shape."""
        new = expand_parameters(self, batch_shape, _instance)
        new.concentration, new.rate = 0.5 * new.df, torch.full_like(new.df, 0.5)
        return new


class Exponential(td.Exponential, Distribution):
    """Exponential law; support the reals >= 0.

    Args:
        rate: inverse mean; > 0.

    Example:
        >>> Exponential(2.0).log_prob(torch.tensor(0.0))
        tensor(0.6931)
    """

    def __init__(self, rate: Number, validate_args: bool | None = None) -> None:
        (self.rate,) = promote(self, rate=rate)
        Distribution.__init__(self, self.rate.shape, SCALAR, validate_args)

    expand = expand_parameters

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; -inf below 0."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.where(value >= 0, self.rate.log() - self.rate * value, -math.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        return -torch.expm1(-self.rate * value.clamp(min=0))
