"""InverseGaussian: the time at which a drifting Brownian motion first reaches a level."""

from __future__ import annotations

import torch
from torch.distributions import constraints

from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.distributions.special import HALF_LOG_2PI


class InverseGaussian(Elementwise):
    """Inverse Gaussian (Wald) law on the positive reals.

    Args:
        loc: mean; > 0.
        concentration: shape; > 0. The variance is ``loc^3 / concentration``.

    Example:
        >>> InverseGaussian(2.0, 4.0).variance
        tensor(2.)
    """

    has_rsample = True
    loc: torch.Tensor
    concentration: torch.Tensor
    arg_constraints = {"loc": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive

    def __init__(self, loc: Number, concentration: Number, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, loc=loc, concentration=concentration)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.loc
        kernel = -0.5 * self.concentration * z * z / value
        return kernel + 0.5 * (self.concentration.log() - 3.0 * value.log()) - HALF_LOG_2PI

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        root, ratio = (self.concentration / value).sqrt(), value / self.loc
        direct: torch.Tensor = torch.special.log_ndtr(root * (ratio - 1.0))
        mirrored: torch.Tensor = torch.special.log_ndtr(-root * (ratio + 1.0))
        reflected = 2.0 * self.concentration / self.loc + mirrored
        return direct.exp() + reflected.exp()

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw by the transformation of Michael, Schucany & Haas 1976."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            chi2 = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device) ** 2
            # Both roots of a quadratic have the same chi2; the smaller one, without cancellation.
            h = 0.5 * self.loc * chi2 / self.concentration
            small = self.loc / (1.0 + h + (h * (2.0 + h)).sqrt())
            is_small = torch.rand_like(chi2) * (self.loc + small) <= self.loc
            return torch.where(is_small, small, self.loc * (self.loc / small))

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw with the implicit gradient of the distribution function."""
        x = self.sample(sample_shape)
        plain = InverseGaussian(self.loc, self.concentration, validate_args=False)
        below, density = plain.cdf(x), plain.log_prob(x).exp().detach()
        drift = (below - below.detach()) / density.clamp(min=torch.finfo(x.dtype).tiny)
        return x - drift

    @property
    def mean(self) -> torch.Tensor:
        return self.loc

    @property
    def mode(self) -> torch.Tensor:
        r = 1.5 * self.loc / self.concentration
        return self.loc / (r + (1.0 + r * r).sqrt())

    @property
    def variance(self) -> torch.Tensor:
        return self.loc**3 / self.concentration
