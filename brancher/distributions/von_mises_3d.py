"""VonMises3D: the normal law of directions in space."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import pad

from brancher.distributions import constraints
from brancher.distributions.base import Distribution
from brancher.distributions.elementwise import open_uniform
from brancher.distributions.parameters import expand_parameters, to_tensors
from brancher.distributions.shapes import Size
from brancher.distributions.special import log1mexp
from brancher.errors import DistributionError

_LOG_4PI = math.log(4.0 * math.pi)


class VonMises3D(Distribution):
    """Von Mises-Fisher law on the sphere in three dimensions.

    Args:
        concentration: mean direction times sharpness, shape B + (3,); zero is uniform.

    Example:
        >>> d = VonMises3D(torch.zeros(3))
        >>> round(float(d.log_prob(torch.tensor([0.0, 0.0, 1.0])).exp() * 4 * math.pi), 4)
        1.0
    """

    has_rsample = True
    concentration: torch.Tensor
    arg_constraints = {"concentration": constraints.real_vector}
    support = constraints.sphere

    def __init__(self, concentration: torch.Tensor, validate_args: bool | None = None) -> None:
        (self.concentration,) = to_tensors(self, concentration=concentration)
        shape = self.concentration.shape
        if shape[-1:] != (3,):
            raise DistributionError(
                f"VonMises3D: expected parameter 'concentration' of shape (..., 3), got {tuple(shape)}; "
                "give a vector of length 3"
            )
        super().__init__(shape[:-1], shape[-1:], validate_args)

    expand = expand_parameters

    def _polar(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean direction and sharpness; no direction counts as the first axis."""
        square = self.concentration.square().sum(-1)
        is_zero = square == 0
        length = torch.where(is_zero, 1.0, square).sqrt()
        axis = pad(torch.ones_like(length).unsqueeze(-1), (0, 2))
        direction = torch.where(is_zero.unsqueeze(-1), axis, self.concentration / length.unsqueeze(-1))
        return direction, torch.where(is_zero, 0.0, length)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density on the sphere in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        direction, k = self._polar()
        is_flat = k < 1e-3
        # k (cos - 1) = -k |x - m|^2 / 2, which keeps its digits near the mean direction.
        safe = torch.where(is_flat, 1.0, k)
        from_mean = -0.5 * safe * (value - direction).square().sum(-1)
        sharp = from_mean + safe.log() - log1mexp(-2.0 * safe) + math.log(2.0)
        flat = (self.concentration * value).sum(-1) - self.concentration.square().sum(-1) / 6.0
        return torch.where(is_flat, flat, sharp) - _LOG_4PI

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably: a height by inversion, and an angle around the mean direction."""
        shape = self._extended_shape(torch.Size(sample_shape))
        direction, k = self._polar()
        u = open_uniform(shape[:-1], k)
        # Distance below the pole, -log(u + (1 - u) exp(-2k)) / k; 2 (1 - u) as k vanishes.
        is_flat = k < 1e-5
        safe = torch.where(is_flat, 1.0, k)
        sharp = -((1.0 - u) * (-2.0 * safe).expm1()).log1p() / safe
        drop = torch.where(is_flat, 2.0 * (1.0 - u) * (1.0 - k * u), sharp)
        radius = (drop * (2.0 - drop)).clamp(min=0.0).sqrt()
        noise = torch.randn(shape, dtype=k.dtype, device=k.device)
        across: torch.Tensor = noise - (noise * direction).sum(-1, keepdim=True) * direction
        across = across / across.square().sum(-1, keepdim=True).sqrt()
        along: torch.Tensor = (1.0 - drop).unsqueeze(-1) * direction
        return along + radius.unsqueeze(-1) * across

    @property
    def mean(self) -> torch.Tensor:
        """Expected vector, inside the ball: ``coth(k) - 1 / k`` times the mean direction."""
        direction, k = self._polar()
        is_flat = k < 1e-2
        safe = torch.where(is_flat, 1.0, k)
        length = torch.where(is_flat, k / 3.0 - k**3 / 45.0, 1.0 / safe.tanh() - 1.0 / safe)
        return length.unsqueeze(-1) * direction
