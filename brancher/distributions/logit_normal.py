"""LogitNormal: the sigmoid of a normal draw."""

from __future__ import annotations

import math

import torch
from torch.distributions import constraints

from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.distributions.special import HALF_LOG_2PI, normal_cdf

# The trapezoid rule converges geometrically for analytic integrands: at this step the error is
# below 1e-16 for the normal density and for the logistic one.
_STEP = 0.5
_NORMAL_REACH, _LOGISTIC_REACH = 9.0, 40.0


class LogitNormal(Elementwise):
    """Law on the unit interval whose log-odds are normal.

    Args:
        loc: mean of the log-odds.
        scale: standard deviation of the log-odds; > 0.

    Example:
        >>> LogitNormal(0.0, 1.0).mean
        tensor(0.5000)
    """

    has_rsample = True
    loc: torch.Tensor
    scale: torch.Tensor
    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.unit_interval

    def __init__(self, loc: Number, scale: Number, validate_args: bool | None = None) -> None:
        super().__init__(validate_args, loc=loc, scale=scale)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; -inf at 0 and 1."""
        if self._validate_args:
            self._validate_sample(value)
        is_inside = (value > 0) & (value < 1)
        x = torch.where(is_inside, value, 0.5)
        log_x, log_rest = x.log(), (-x).log1p()
        z = (log_x - log_rest - self.loc) / self.scale
        log_prob = -0.5 * z * z - HALF_LOG_2PI - self.scale.log() - log_x - log_rest
        return torch.where(is_inside, log_prob, -math.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return normal_cdf((value.log() - (-value).log1p() - self.loc) / self.scale)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Value below which a draw falls with the given probability."""
        return torch.sigmoid(self.loc + self.scale * torch.special.ndtri(value))

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably; never exactly 0 or 1, where the density vanishes."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        info = torch.finfo(self.loc.dtype)
        return (self.loc + self.scale * noise).sigmoid().clamp(info.tiny, 1.0 - info.eps / 2.0)

    @property
    def median(self) -> torch.Tensor:
        """The value that half of all draws exceed."""
        return self.loc.sigmoid()

    @property
    def mean(self) -> torch.Tensor:
        return self._moments()[0]

    @property
    def variance(self) -> torch.Tensor:
        return self._moments()[1]

    def _moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance by quadrature, over whichever of normal and logistic is the smoother."""
        is_narrow = self.scale < 1.0
        narrow = self._narrow_moments(torch.where(is_narrow, self.scale, 1.0))
        wide = self._wide_moments(torch.where(is_narrow, 1.0, self.scale))
        return torch.where(is_narrow, narrow[0], wide[0]), torch.where(is_narrow, narrow[1], wide[1])

    def _narrow_moments(self, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = _grid(_NORMAL_REACH, scale)
        weight = _STEP * (-0.5 * z * z - HALF_LOG_2PI).exp()
        x = (self.loc.unsqueeze(-1) + scale.unsqueeze(-1) * z).sigmoid()
        mean = (weight * x).sum(-1)
        return mean, (weight * (x - mean.unsqueeze(-1)) ** 2).sum(-1)

    def _wide_moments(self, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # A sigmoid is the distribution function of a logistic draw, its square that of the larger
        # of two, so its moments are probabilities that such draws lie below a normal one.
        t = _grid(_LOGISTIC_REACH, scale)
        below = normal_cdf((self.loc.unsqueeze(-1) - t) / scale.unsqueeze(-1))
        weight = _STEP * t.sigmoid() * (-t).sigmoid()
        mean = (weight * below).sum(-1)
        return mean, (2.0 * t.sigmoid() * weight * below).sum(-1) - mean * mean


def _grid(reach: float, like: torch.Tensor) -> torch.Tensor:
    count = int(reach / _STEP)
    return _STEP * torch.arange(-count, count + 1, dtype=like.dtype, device=like.device)
