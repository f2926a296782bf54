"""VonMises."""

from __future__ import annotations

import math

import torch
from torch import distributions as td

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, promote
from brancher.distributions.shapes import Size

_LOG_2PI = math.log(2.0 * math.pi)
_ROUNDS, _TRIES = 4, 8


class VonMises(td.VonMises, Distribution):
    """Normal law of the circle; angles in radians, drawn in [-pi, pi).

    Args:
        loc: mean direction.
        concentration: sharpness; > 0.

    Example:
        >>> VonMises(0.0, 1e6).log_prob(torch.tensor(0.0))
        tensor(5.9888)
    """

    def __init__(self, loc: Number, concentration: Number, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = promote(self, loc=loc, concentration=concentration)
        Distribution.__init__(self, self.loc.shape, SCALAR, validate_args)

    expand = expand_parameters

    @property
    def variance(self) -> torch.Tensor:
        """Circular variance."""
        k = self.concentration
        variance: torch.Tensor = 1.0 - torch.special.i1e(k) / torch.special.i0e(k)
        return variance

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; right digits for any concentration."""
        if self._validate_args:
            self._validate_sample(value)
        # cos(t) - 1 = -2 sin(t/2)^2 cancels the e^k that i0e has taken out of the Bessel function.
        half = torch.sin(0.5 * (value - self.loc))
        k = self.concentration
        log_prob: torch.Tensor = -2.0 * k * half * half - _LOG_2PI - torch.special.i0e(k).log()
        return log_prob

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw by rejection from a wrapped Cauchy law (Best & Fisher 1979), without a gradient.

        A fixed number of proposals keeps the draw traceable: at an acceptance of at least 0.657 a
        draw, all 32 fail with probability 1.3e-15.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            k = self.concentration.double()
            r = _proposal_sharpness(k).expand(shape)
            cosine = torch.ones_like(r)
            is_done = torch.zeros_like(r, dtype=torch.bool)
            for _ in range(_ROUNDS):
                found, candidate = _propose(k.expand(shape), r)
                cosine = torch.where(is_done, cosine, candidate)
                is_done = is_done | found
            sign = torch.sign(torch.rand_like(r) - 0.5)
            angle = sign * torch.acos(cosine) + self.loc + math.pi
            return (torch.remainder(angle, 2.0 * math.pi) - math.pi).to(self.loc.dtype)


def _proposal_sharpness(k: torch.Tensor) -> torch.Tensor:
    tau = 1.0 + (1.0 + 4.0 * k * k).sqrt()
    rho = (tau - (2.0 * tau).sqrt()) / (2.0 * k)
    exact = (1.0 + rho * rho) / (2.0 * rho)
    # 1/k is the limit for a small concentration, where the formula divides zero by zero.
    return torch.where(k < 1e-5, 1.0 / k + k, exact)


def _propose(k: torch.Tensor, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Make several proposals at once; return whether one was accepted, and the first such cosine."""
    u1, u2 = torch.rand((2, _TRIES, *k.shape), dtype=k.dtype, device=k.device).unbind(0)
    z = torch.cos(math.pi * u1)
    cosine = (1.0 + r * z) / (r + z)
    c = k * (r - cosine)
    accepted = ((c * (2.0 - c) - u2) > 0) | (((c / u2).log() + 1.0 - c) >= 0)
    first = accepted.to(torch.uint8).argmax(0, keepdim=True)
    return accepted.any(0), cosine.gather(0, first).squeeze(0).clamp(-1.0, 1.0)
