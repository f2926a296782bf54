"""InverseGamma: the reciprocal of a gamma draw."""

from __future__ import annotations

import torch
from torch.distributions import constraints

from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.distributions.special import log_gamma_kernel, log_minus_digamma, stirling_remainder


class InverseGamma(Elementwise):
    """Law of 1 / x for x from a gamma law; support the positive reals.

    Args:
        concentration: shape; > 0.
        rate: of the gamma law, the scale of this one; > 0.

    Example:
        >>> InverseGamma(3.0, 2.0).mean
        tensor(1.)
    """

    has_rsample = True
    concentration: torch.Tensor
    rate: torch.Tensor
    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive

    def __init__(self, concentration: Number, rate: Number, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, concentration=concentration, rate=rate)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably, by the implicit gradient of the gamma law."""
        shape = self._extended_shape(torch.Size(sample_shape))
        gamma = torch._standard_gamma(self.concentration.expand(shape))
        return self.rate / gamma.clamp(min=torch.finfo(gamma.dtype).tiny)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; right digits at concentrations of 1e8 and more."""
        if self._validate_args:
            self._validate_sample(value)
        log_value = value.log()
        log_ratio = self.rate.log() - log_value
        return log_gamma_kernel(self.concentration, self.rate / value, log_ratio) - log_value

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        upper: torch.Tensor = torch.special.gammaincc(self.concentration, self.rate / value)
        return upper

    @property
    def mean(self) -> torch.Tensor:
        a = self.concentration
        return torch.where(a > 1.0, self.rate / (a - 1.0), torch.inf)

    @property
    def mode(self) -> torch.Tensor:
        return self.rate / (self.concentration + 1.0)

    @property
    def variance(self) -> torch.Tensor:
        a = self.concentration
        square = (self.rate / (a - 1.0)) ** 2
        return torch.where(a > 2.0, square / (a - 2.0), torch.inf)

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        a = self.concentration
        spread = stirling_remainder(a) + (1.0 + a) * log_minus_digamma(a)
        return spread + self.rate.log() - 2.0 * a.log()
