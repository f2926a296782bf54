"""Bernoulli and ContinuousBernoulli."""

from __future__ import annotations

import math

import torch
from torch import distributions as td
from torch.nn.functional import logsigmoid

from brancher.distributions.base import Distribution
from brancher.distributions.elementwise import open_uniform
from brancher.distributions.odds import Odds, weighed
from brancher.distributions.parameters import SCALAR, Number, expand_parameters
from brancher.distributions.shapes import Size


class Bernoulli(Odds, td.Bernoulli, Distribution):  # type: ignore[override]
    """A draw of 0 or 1.

    Args:
        probs: probability of 1; or
        logits: its log-odds.

    Example:
        >>> Bernoulli(probs=1e-20).log_prob(torch.tensor(1.0))
        tensor(-46.0517)
    """

    def __init__(
        self, probs: Number | None = None, logits: Number | None = None, validate_args: bool | None = None
    ) -> None:
        self._take(probs, logits)
        Distribution.__init__(self, self._param.shape, SCALAR, validate_args)

    expand = expand_parameters

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats; values between 0 and 1 weigh both outcomes."""
        if self._validate_args:
            self._validate_sample(value)
        if self._is_logits and _is_binary(value):
            return logsigmoid((2.0 * value.to(self.logits.dtype) - 1.0) * self.logits)
        weight = value.to(self._param.dtype) if value.dtype == torch.bool else value
        if not self._is_logits:
            return self._log_success(weight) + self._log_failure(1.0 - weight)
        # The log-odds of what weighs more need one log-sigmoid in place of two, and lose no digits.
        is_success = weight > 0.5
        odds = torch.where(is_success, self.logits, -self.logits)
        return logsigmoid(odds) - weighed(torch.where(is_success, 1.0 - weight, weight), odds)

    @property
    def variance(self) -> torch.Tensor:
        return self.probs * self._failure_probs()

    def entropy(self) -> torch.Tensor:
        """Entropy in nats."""
        return -self._log_success(self.probs) - self._log_failure(self._failure_probs())


def _is_binary(value: torch.Tensor) -> bool:
    """Whether all entries are known to be 0 or 1: they are looked at where that holds nothing up."""
    is_traced = type(value) is not torch.Tensor or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    if is_traced or value.device.type != "cpu" or value.requires_grad:
        return False
    try:
        return torch.equal(value * value, value)
    except RuntimeError:  # inside vmap, where entries are not to be had
        return False


class ContinuousBernoulli(Odds, td.ContinuousBernoulli, Distribution):  # type: ignore[override]
    """Density proportional to ``exp(logits * x)`` on the unit interval.

    Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845.

    Args:
        probs: sigmoid of the slope; 0 < probs < 1; or
        logits: the slope.
        lims: accepted for torch's signature; the formulas here need no cut-out around 1/2.

    Example:
        >>> ContinuousBernoulli(0.5).log_prob(torch.tensor(0.3))
        tensor(0.)
    """

    def __init__(
        self,
        probs: Number | None = None,
        logits: Number | None = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:
        self._take(probs, logits)
        self._lims = lims
        Distribution.__init__(self, self._param.shape, SCALAR, validate_args)

    expand = expand_parameters

    @property
    def mean(self) -> torch.Tensor:
        half = 0.5 * self.logits
        return 0.5 + 0.5 * _langevin(half)

    @property
    def variance(self) -> torch.Tensor:
        h = 0.5 * self.logits
        near = h.abs() < 0.05
        far = torch.where(near, 1.0, h)
        # 1/sinh(h)^2 written with a decaying exponential, so that it can not overflow
        decay = torch.exp(-2.0 * far.abs())
        direct = far.reciprocal().square() - 4.0 * decay / torch.expm1(-2.0 * far.abs()).square()
        s = h * h
        series = 1.0 / 3.0 - s * (1.0 / 15.0 - s * (2.0 / 189.0 - s * (1.0 / 675.0)))
        return 0.25 * torch.where(near, series, direct)

    @property
    def stddev(self) -> torch.Tensor:
        return self.variance.sqrt()

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw by the quantile function."""
        return self.icdf(open_uniform(self._extended_shape(torch.Size(sample_shape)), self._param))

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        # The normaliser of exp(2 h (x - 1/2)) is sinh(h) / h, which is even in h.
        half = 0.5 * self.logits
        return 2.0 * half * (value - 0.5) - _log_sinhc(half)

    def entropy(self) -> torch.Tensor:
        """Entropy in nats."""
        half = 0.5 * self.logits
        return _log_sinhc(half) - half * _langevin(half)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        slope, x = self.logits, value.clamp(0.0, 1.0)
        flat = slope.abs() < 1e-6
        steep = torch.where(flat, 1.0, slope)
        # For a positive slope both exponentials are scaled by exp(-slope).
        rising = torch.exp(steep.clamp(min=0.0) * (x - 1.0))
        exact = rising * torch.expm1(-steep.abs() * x) / torch.expm1(-steep.abs())
        falling = torch.expm1(steep.clamp(max=0.0) * x) / torch.expm1(-steep.abs())
        return torch.where(flat, x * (1.0 - 0.5 * slope * (1.0 - x)), torch.where(steep > 0, exact, falling))

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        slope, p = self.logits, value
        flat = slope.abs() < 1e-6
        size = torch.where(flat, 1.0, slope).abs()
        # log(1 + p (exp(s) - 1)) / s for a slope s > 0, where the exponential may overflow.
        rising = -logsigmoid(-(p.log() + size + (-torch.expm1(-size)).log()))
        # -log(1 - p (1 - exp(-s))) / s for a slope -s, where the difference may cancel.
        drop = p * torch.expm1(-size)
        log_rest = torch.where(drop > -0.5, drop.log1p(), (1.0 - p + p * torch.exp(-size)).log())
        falling = torch.minimum(-log_rest, size)
        exact = torch.where(slope > 0, rising, falling) / size
        return torch.where(flat, p * (1.0 + 0.5 * slope * (1.0 - p)), exact)


def _log_sinhc(h: torch.Tensor) -> torch.Tensor:
    """log(sinh(h) / h)."""
    near = h.abs() < 0.05
    size = torch.where(near, 1.0, h.abs())
    direct = size + torch.log1p(-torch.exp(-2.0 * size)) - size.log() - math.log(2.0)
    s = h * h
    series = s * (1.0 / 6.0 - s * (1.0 / 180.0 - s * (1.0 / 2835.0 - s * (1.0 / 37800.0))))
    return torch.where(near, series, direct)


def _langevin(h: torch.Tensor) -> torch.Tensor:
    """coth(h) - 1/h."""
    near = h.abs() < 0.05
    far = torch.where(near, 1.0, h)
    s = h * h
    series = h * (1.0 / 3.0 - s * (1.0 / 45.0 - s * (2.0 / 945.0 - s * (1.0 / 4725.0))))
    return torch.where(near, series, torch.tanh(far).reciprocal() - far.reciprocal())
