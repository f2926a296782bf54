"""ProjectedNormal: the direction of a normal vector."""

from __future__ import annotations

import math

import torch

from brancher.distributions import constraints
from brancher.distributions.base import Distribution
from brancher.distributions.normal_tail import mills
from brancher.distributions.parameters import expand_parameters, to_tensors
from brancher.distributions.shapes import Size
from brancher.errors import DistributionError

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_EXTRA_TERMS = 80


class ProjectedNormal(Distribution):
    """Law on the unit sphere: a standard normal vector around ``concentration``, normalised.

    The density integrates the radius out (Hernandez-Stumpfhauser, Breidt & van der Woerd 2017, in
    two dimensions); here for every number of dimensions.

    Args:
        concentration: mean of the normal vector, shape B + (n,); its length says how
            concentrated the law is, zero makes it uniform.

    Example:
        >>> d = ProjectedNormal(torch.zeros(3))
        >>> round(float(d.log_prob(torch.tensor([0.0, 0.0, 1.0])).exp() * 4 * math.pi), 4)
        1.0
    """

    has_rsample = True
    concentration: torch.Tensor
    arg_constraints = {"concentration": constraints.real_vector}
    support = constraints.sphere

    def __init__(self, concentration: torch.Tensor, *, validate_args: bool | None = None) -> None:
        (self.concentration,) = to_tensors(self, concentration=concentration)
        shape = self.concentration.shape
        if not shape:
            raise DistributionError(
                "ProjectedNormal: expected parameter 'concentration' of shape (..., n), got a number; "
                "give a vector"
            )
        super().__init__(shape[:-1], shape[-1:], validate_args)

    expand = expand_parameters

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably: a normal vector, normalised."""
        shape = self._extended_shape(torch.Size(sample_shape))
        x = torch.randn(shape, dtype=self.concentration.dtype, device=self.concentration.device)
        return _normalised(self.concentration + x)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density on the sphere in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        t = (self.concentration * value).sum(-1)
        across = self.concentration - t.unsqueeze(-1) * value
        n = self.event_shape[0]
        # Facing the mean, its square is split so that only the part across remains.
        is_facing = t > 0
        facing = torch.special.log_ndtr(torch.where(is_facing, t, 0.0)) + _HALF_LOG_2PI
        facing = facing - 0.5 * across.square().sum(-1)
        averted = mills(torch.where(is_facing, 0.0, -t)).log() - 0.5 * self.concentration.square().sum(-1)
        return torch.where(is_facing, facing, averted) + _log_radial_ratio(t, n) - n * _HALF_LOG_2PI

    @property
    def mean(self) -> torch.Tensor:
        """The direction with the smallest expected squared distance on the sphere."""
        return _normalised(self.concentration)

    @property
    def mode(self) -> torch.Tensor:
        return _normalised(self.concentration)


def _normalised(x: torch.Tensor) -> torch.Tensor:
    # Zero has no direction; the first axis stands for it, so that the result lies on the sphere.
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    axis = torch.nn.functional.pad(torch.ones_like(x[..., :1]), (0, x.shape[-1] - 1))
    return torch.where(length > 0, x / length.clamp(min=torch.finfo(x.dtype).tiny), axis)


def _log_radial_ratio(t: torch.Tensor, n: int) -> torch.Tensor:
    """Log of J(n-1) / J(0), where J(k) is the integral of ``r^k exp(t r - r^2 / 2)`` over r > 0.

    Successive ratios obey ``ratio(k+1) = t + k / ratio(k)``. Upwards that is stable unless t is
    negative; then it is run downwards, as the continued fraction of the parabolic cylinder functions.
    """
    is_averted = t < -1.5
    up, down = torch.where(is_averted, 0.0, t), torch.where(is_averted, -t, 1.5)
    log_base = torch.special.log_ndtr(up) + 0.5 * up * up + _HALF_LOG_2PI
    ratio_up, ratios_down = up + (-log_base).exp(), _downward_ratios(down, n)
    total = torch.zeros_like(t)
    for k in range(1, n):
        total = total + torch.where(is_averted, ratios_down[k - 1], ratio_up).log()
        ratio_up = up + k / ratio_up
    return total


def _downward_ratios(s: torch.Tensor, n: int) -> list[torch.Tensor]:
    """The first n - 1 ratios for t = -s; terms beyond start from their limiting value and slope."""
    last = n - 1 + _EXTRA_TERMS
    shifted = s + (s * s + 4.0 * last).rsqrt()
    ratio = 2.0 * last / (shifted + (shifted * shifted + 4.0 * last).sqrt())
    ratios = []
    for k in range(last - 1, 0, -1):
        ratio = k / (s + ratio)
        if k < n:
            ratios.append(ratio)
    return ratios[::-1]
