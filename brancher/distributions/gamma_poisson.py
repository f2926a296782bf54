"""Counts whose rate is Gamma distributed."""

from __future__ import annotations

import torch
from torch.distributions import constraints

from brancher.distributions.counts import draw_poisson
from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.distributions.special import deviance, stirling_remainder


class GammaPoisson(Elementwise):
    """Poisson count with a Gamma rate, integrated out: a negative binomial law.

    Args:
        concentration: shape of the Gamma law; > 0.
        rate: rate of the Gamma law; > 0.

    Example:
        >>> GammaPoisson(1.0, 1.0).log_prob(torch.tensor(2.0)).exp()
        tensor(0.1250)
    """

    concentration: torch.Tensor
    rate: torch.Tensor
    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative_integer

    def __init__(
        self,
        concentration: Number,
        rate: Number,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(validate_args, concentration=concentration, rate=rate)

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw a rate, then a count."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            rate = torch._standard_gamma(self.concentration.expand(shape)) / self.rate
            return draw_poisson(rate)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-mass in nats, shape sample_shape + B.

        The large terms of ``log Γ(a + k) - log Γ(a) - log k!`` and of the powers of the two
        probabilities fall into two deviances from the expected split of a + k.
        """
        if self._validate_args:
            self._validate_sample(value)
        a, k = torch.broadcast_tensors(self.concentration, value.to(self.rate.dtype))
        is_inside = k >= 0
        k = torch.where(is_inside, k, 0.0)
        total, share = a + k, 1.0 / (1.0 + self.rate)
        rest = stirling_remainder(total) - stirling_remainder(a) - stirling_remainder(k)
        log_share = -self.rate.log1p()
        split = deviance(a, total * (self.rate * share)) + deviance(k, total * share, total.log() + log_share)
        return torch.where(is_inside, rest + a.log() - total.log() - split, -torch.inf)

    @property
    def mean(self) -> torch.Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> torch.Tensor:
        return ((self.concentration - 1.0) / self.rate).clamp(min=0.0).floor()

    @property
    def variance(self) -> torch.Tensor:
        return self.concentration / self.rate * (1.0 + self.rate) / self.rate
