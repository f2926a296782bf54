"""The logistic law and its skewed form."""

from __future__ import annotations

import math

import torch
from torch.distributions import constraints
from torch.nn.functional import softplus

from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.distributions.special import log1mexp

_EULER = 0.5772156649015329


class Logistic(Elementwise):
    """Logistic law: the distribution function is a sigmoid; tails are exponential.

    Args:
        loc: mean, median and mode.
        scale: > 0; the standard deviation is pi / sqrt(3) times it.

    Example:
        >>> round(float(Logistic(0.0, 1.0).log_prob(torch.tensor(0.0))), 4)
        -1.3863
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
        return -z - 2.0 * (-z).exp().log1p() - self.scale.log()

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return ((value - self.loc) / self.scale).sigmoid()

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Value below which a draw falls with the given probability."""
        return self.loc + self.scale * (value.log() - (-value).log1p())

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
        return (math.pi**2 / 3.0) * self.scale**2

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        return self.scale.log() + 2.0


class SkewLogistic(Elementwise):
    """Logistic law whose distribution function is raised to the power ``asymmetry``.

    Also called the type I generalised logistic law; the left tail decays at the rate
    ``asymmetry / scale``, the right one at ``1 / scale``.

    Args:
        loc: location; the median where ``asymmetry`` is 1.
        scale: > 0.
        asymmetry: > 0; above 1 the law leans to the right.

    Example:
        >>> SkewLogistic(0.0, 1.0, 2.0).cdf(torch.tensor(0.0))
        tensor(0.2500)
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
        asymmetry: Number = 1.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(validate_args, loc=loc, scale=scale, asymmetry=asymmetry)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        z, a = (value - self.loc) / self.scale, self.asymmetry
        # softplus(-z) written for both signs, so that the linear parts never cancel. The kinks of the
        # two summands at 0 cancel, and so must their derivatives there: abs would take 0 for its own.
        is_left = z < 0
        slope = torch.where(is_left, a * z, -z)
        bend = torch.where(is_left, z, -z).exp().log1p()
        return slope - (a + 1.0) * bend + a.log() - self.scale.log()

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return (-self.asymmetry * softplus((self.loc - value) / self.scale)).exp()

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Value below which a draw falls with the given probability."""
        log_p = value.log() / self.asymmetry
        return self.loc + self.scale * (log_p - log1mexp(log_p))

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably, by inversion."""
        return self.icdf(self._uniform(sample_shape))

    @property
    def mean(self) -> torch.Tensor:
        return self.loc + self.scale * (torch.digamma(self.asymmetry) + _EULER)

    @property
    def mode(self) -> torch.Tensor:
        return self.loc + self.scale * self.asymmetry.log()

    @property
    def variance(self) -> torch.Tensor:
        trigamma: torch.Tensor = torch.special.zeta(2.0, self.asymmetry)
        return self.scale**2 * (math.pi**2 / 6.0 + trigamma)

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        a = self.asymmetry
        return self.scale.log() - a.log() + torch.digamma(a) + _EULER + 1.0 + 1.0 / a
