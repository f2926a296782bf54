"""The normal family: Normal, HalfNormal, LogNormal."""

from __future__ import annotations

import math

import torch
from torch import distributions as td

from brancher.distributions.base import Distribution

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Normal(td.Normal, Distribution):
    """Normal law with mean ``loc`` and standard deviation ``scale``; support the reals.

    Args:
        loc: mean.
        scale: standard deviation; > 0.

    Example:
        >>> round(float(Normal(0.0, 1.0).log_prob(torch.tensor(0.0))), 4)
        -0.9189
    """

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return -0.5 * z * z - self.scale.log() - _HALF_LOG_2PI
