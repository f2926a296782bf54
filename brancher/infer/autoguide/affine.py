"""A normal vector as a standard normal one that was scaled, rotated and moved."""

from __future__ import annotations

from collections.abc import Callable

import torch

from brancher.distributions import Distribution, constraints
from brancher.distributions.special import HALF_LOG_2PI
from brancher.infer.autoguide.drawn import Drawn


def noise_like(loc: torch.Tensor, batch_shape: torch.Size) -> torch.Tensor:
    """Standard normal noise for vectors such as ``loc``."""
    return torch.empty(batch_shape + loc.shape, dtype=loc.dtype, device=loc.device).normal_()


def standard_log_density(noise: torch.Tensor) -> torch.Tensor:
    """Log-density of standard normal vectors, in nats."""
    return -0.5 * (noise * noise).sum(-1) - HALF_LOG_2PI * noise.shape[-1]


def drawn_from_noise(
    noise: torch.Tensor,
    vector: torch.Tensor,
    log_slope: Callable[[], torch.Tensor],
    law: Callable[[], Distribution],
) -> Drawn:
    """The law of a vector made from noise by a bijection with the given log |dvector/dnoise|."""
    batch_shape = vector.shape[:-1]
    return Drawn(
        vector,
        lambda: standard_log_density(noise) - log_slope(),
        lambda: law().expand(batch_shape) if batch_shape else law(),
        1,
        constraints.real_vector,
    )
