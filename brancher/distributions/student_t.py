"""StudentT and FisherSnedecor."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions.base import Distribution
from brancher.distributions.gamma import Chi2, Gamma
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, promote
from brancher.distributions.shapes import Size
from brancher.distributions.special import (
    log1p_square,
    log_beta_kernel,
    log_gamma_half_ratio,
    log_minus_digamma,
)

_HALF_LOG_PI = 0.5 * math.log(math.pi)


class StudentT(td.StudentT, Distribution):
    """Student's t law; support the reals.

    Args:
        df: degrees of freedom; > 0.
        loc: median.
        scale: width; > 0.

    Example:
        >>> StudentT(1.0).log_prob(torch.tensor(0.0))
        tensor(-1.1447)
    """

    def __init__(
        self, df: Number, loc: Number = 0.0, scale: Number = 1.0, validate_args: bool | None = None
    ) -> None:
        self.df, self.loc, self.scale = promote(self, df=df, loc=loc, scale=scale)
        Distribution.__init__(self, self.df.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def _chi2(self) -> Any:
        return Chi2(self.df, validate_args=False)

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw a normal divided by the root of an independent chi-square over ``df``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.empty(shape, dtype=self.df.dtype, device=self.df.device).normal_()
        chi2 = self._chi2.rsample(torch.Size(sample_shape))
        return self.loc + self.scale * noise * torch.rsqrt(chi2 / self.df)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; right at values of 1e200 and at ``df`` of 1e8."""
        if self._validate_args:
            self._validate_sample(value)
        root = self.df.sqrt()
        t = (value - self.loc) / self.scale / root
        normalizer = self.scale.log() + root.log() + _HALF_LOG_PI - log_gamma_half_ratio(0.5 * self.df)
        return -0.5 * (self.df + 1.0) * log1p_square(t) - normalizer

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        half = 0.5 * self.df
        # digamma(h + 1/2) - digamma(h), small for large h
        step = (0.5 / half).log1p() - log_minus_digamma(half + 0.5) + log_minus_digamma(half)
        width = self.scale.log() + 0.5 * self.df.log() + _HALF_LOG_PI - log_gamma_half_ratio(half)
        return (half + 0.5) * step + width


class FisherSnedecor(td.FisherSnedecor, Distribution):
    """F law: the ratio of two mean squares; support the positive reals.

    Args:
        df1: degrees of freedom of the numerator; > 0.
        df2: degrees of freedom of the denominator; > 0.

    Example:
        >>> FisherSnedecor(2.0, 2.0).log_prob(torch.tensor(1.0)).exp()
        tensor(0.2500)
    """

    def __init__(self, df1: Number, df2: Number, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = promote(self, df1=df1, df2=df2)
        Distribution.__init__(self, self.df1.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def _gamma1(self) -> Any:
        return Gamma(0.5 * self.df1, self.df1, validate_args=False)

    @lazy_property
    def _gamma2(self) -> Any:
        return Gamma(0.5 * self.df2, self.df2, validate_args=False)

    @property
    def mean(self) -> torch.Tensor:
        valid = self.df2 > 2
        df2 = torch.where(valid, self.df2, 3.0)
        return torch.where(valid, df2 / (df2 - 2), math.nan)

    @property
    def mode(self) -> torch.Tensor:
        mode = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return torch.where(self.df1 > 2, mode, math.nan)

    @property
    def variance(self) -> torch.Tensor:
        valid = self.df2 > 4
        df2 = torch.where(valid, self.df2, 5.0)
        ratio = 2 * df2.square() * (self.df1 + df2 - 2) / (self.df1 * (df2 - 2).square() * (df2 - 4))
        return torch.where(valid, ratio, math.nan)

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw the ratio of two gamma draws."""
        size, tiny = torch.Size(sample_shape), torch.finfo(self.df1.dtype).tiny
        ratio: torch.Tensor = self._gamma1.rsample(size) / self._gamma2.rsample(size).clamp(min=tiny)
        return ratio.clamp(min=tiny)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        weight = self.df1 * value
        total = weight + self.df2
        a, b = 0.5 * self.df1, 0.5 * self.df2
        return log_beta_kernel(a, b, weight / total, self.df2 / total) - value.log()
