"""Integrals of the normal density beside a point, relative to the density at that point.

With ``t >= 0`` standard deviations between the mean and the point, mass within a distance ``w``
farther out is ``G(t, w) = integral of exp(-t s - s^2 / 2) over 0 <= s <= w``. All terms stay near one
however far out the point lies, so nothing under- or overflows and no digits cancel.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
_FAR = 25.0
# Asymptotic series of the Mills ratio in -1/t^2, Abramowitz & Stegun 7.1.23.
_MILLS_SERIES = (1.0, 1.0, 3.0, 15.0, 105.0, 945.0, 10395.0, 135135.0, 2027025.0)
_NARROW = 0.1
_NEWTON_STEPS = 4
_NODES = 40


def mills(t: torch.Tensor) -> torch.Tensor:
    """Return ``G(t, inf)``, the Mills ratio, for ``t >= 0``.

    Example:
        >>> mills(torch.tensor([0.0, 100.0]))
        tensor([1.2533, 0.0100])
    """
    is_far = t > _FAR
    far = torch.where(is_far, t, _FAR)
    near = torch.where(is_far, 0.0, t)
    u = -1.0 / (far * far)
    series = u * _MILLS_SERIES[-1] + _MILLS_SERIES[-2]
    for coefficient in _MILLS_SERIES[-3::-1]:
        series = series * u + coefficient
    # erfcx has the value but loses its derivative's digits where the series takes over.
    return torch.where(is_far, series / far, _SQRT_HALF_PI * torch.special.erfcx(near / math.sqrt(2.0)))


def mass_beyond(t: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return ``G(t, inf) - G(t, w)``; ``w`` may be infinite."""
    is_infinite = torch.isinf(w)
    w = torch.where(is_infinite, 1.0, w)
    return torch.where(is_infinite, 0.0, (-w * (t + 0.5 * w)).exp() * mills(t + w))


def mass_within(t: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return ``G(t, w)`` for ``t, w >= 0``; ``w`` may be infinite.

    Example:
        >>> mass_within(torch.tensor(0.0), torch.tensor([1e-20, 1.0]))
        tensor([1.0000e-20, 8.5562e-01])
    """
    return masses(t, w)[0]


def masses(t: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ``G(t, w)``, ``G(t, inf) - G(t, w)`` and ``G(t, inf)``, with what they share computed once."""
    whole, beyond = mills(t), mass_beyond(t, w)
    is_narrow = w * (1.0 + t) < _NARROW
    narrow = _narrow_mass(t, torch.where(is_narrow, w, 0.0))
    return torch.where(is_narrow, narrow, whole - beyond), beyond, whole


def _narrow_mass(t: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    # Terms c_k w^k of the integrand's Taylor series; c_{k+1} = -(t c_k + c_{k-1}) / (k + 1).
    first, second = t * w, w * w
    before, term = torch.ones_like(w), -first
    total = 1.0 + 0.5 * term
    for k in range(2, 10):
        before, term = term, (first * term + second * before) * (-1.0 / k)
        total = total + term * (1.0 / (k + 1))
    return total * w


def distance_at(t: torch.Tensor, y: torch.Tensor, log_whole: torch.Tensor) -> torch.Tensor:
    """Solve ``log G(t, inf) - log mass_beyond(t, s) = y`` for ``s``, with ``y >= 0``; differentiable.

    Args:
        t: standard deviations between the mean and the point, >= 0.
        y: decline of the logarithm of the mass.
        log_whole: ``log G(t, inf)``.

    The left side is convex in s and its quadratic part gives a start beyond the root, from which
    Newton's method descends.
    """
    with torch.no_grad():
        s = 2.0 * y / (t + (t * t + 2.0 * y).sqrt()).clamp(min=torch.finfo(y.dtype).tiny)
        for _ in range(_NEWTON_STEPS):
            s = _newton(s, t, y, log_whole).clamp(min=0.0)
    # One step outside gives the derivative of the implicit function.
    return _newton(s, t, y, log_whole)


def _newton(s: torch.Tensor, t: torch.Tensor, y: torch.Tensor, log_whole: torch.Tensor) -> torch.Tensor:
    ratio = mills(t + s)
    excess = s * (t + 0.5 * s) + log_whole - ratio.log() - y
    return s - excess * ratio


@lru_cache(maxsize=1)
def _legendre() -> tuple[list[float], list[float]]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return list(0.5 * (nodes + 1.0)), list(0.5 * weights)


def mass_points(t: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return distances s and weights, on a new last dimension, that integrate over G(t, w)."""
    nodes, weights = _legendre()
    reach = torch.minimum(w, 80.0 / (t + (t * t + 80.0).sqrt()))  # beyond, the density is below e^-40
    s = reach.unsqueeze(-1) * torch.as_tensor(nodes, dtype=t.dtype, device=t.device)
    density = (-s * (t.unsqueeze(-1) + 0.5 * s)).exp()
    return s, density * reach.unsqueeze(-1) * torch.as_tensor(weights, dtype=t.dtype, device=t.device)
