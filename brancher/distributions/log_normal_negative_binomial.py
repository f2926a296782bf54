"""LogNormalNegativeBinomial: counts with gamma and log-normal noise on their rate."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.distributions import constraints

from brancher.distributions.counts import NegativeBinomial
from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.errors import DistributionError


class LogNormalNegativeBinomial(Elementwise):
    """Negative binomial law whose log-odds carry normal noise, integrated out by quadrature.

    Draws and moments are exact; the density is a mixture over Gauss-Hermite nodes, which suffices
    for a noise scale of about one.

    Args:
        total_count: number of failures of the negative binomial law; > 0.
        logits: mean of its log-odds of success.
        multiplicative_noise_scale: standard deviation of the log-odds; > 0.
        num_quad_points: number of nodes; > 0.

    Example:
        >>> d = LogNormalNegativeBinomial(2.0, 0.0, 0.1)
        >>> round(float(d.log_prob(torch.tensor(0.0)).exp()), 3)
        0.251
    """

    total_count: torch.Tensor
    logits: torch.Tensor
    multiplicative_noise_scale: torch.Tensor
    support = constraints.nonnegative_integer
    arg_constraints = {
        "total_count": constraints.positive,
        "logits": constraints.real,
        "multiplicative_noise_scale": constraints.positive,
    }

    def __init__(
        self,
        total_count: Number,
        logits: Number,
        multiplicative_noise_scale: Number,
        *,
        num_quad_points: int = 8,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(num_quad_points, int) or num_quad_points < 1:
            raise DistributionError(
                "LogNormalNegativeBinomial: expected 'num_quad_points' as a positive int, "
                f"got {num_quad_points}"
            )
        self.num_quad_points = num_quad_points
        super().__init__(
            validate_args,
            total_count=total_count,
            logits=logits,
            multiplicative_noise_scale=multiplicative_noise_scale,
        )

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-mass in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        points, log_weights = _hermite(self.num_quad_points)
        like = self.logits
        noise = torch.as_tensor(points, dtype=like.dtype, device=like.device)
        logits = like.unsqueeze(-1) + self.multiplicative_noise_scale.unsqueeze(-1) * noise
        inner = NegativeBinomial(self.total_count.unsqueeze(-1), logits=logits, validate_args=False)
        weights = torch.as_tensor(log_weights, dtype=like.dtype, device=like.device)
        return (inner.log_prob(value.unsqueeze(-1)) + weights).logsumexp(-1)

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw the noise, then a count."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            noise = torch.randn(shape, dtype=self.logits.dtype, device=self.logits.device)
            logits = self.logits + self.multiplicative_noise_scale * noise
            return NegativeBinomial(self.total_count, logits=logits, validate_args=False).sample()

    @property
    def mean(self) -> torch.Tensor:
        return self.total_count * (self.logits + 0.5 * self.multiplicative_noise_scale**2).exp()

    @property
    def variance(self) -> torch.Tensor:
        spread = (self.multiplicative_noise_scale**2).expm1()
        dispersion = spread + (1.0 + spread) / self.total_count
        return self.mean + dispersion * self.mean**2


@lru_cache(maxsize=8)
def _hermite(count: int) -> tuple[list[float], list[float]]:
    """Nodes and log-weights for an expectation over a standard normal."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    return list(points), list(np.log(weights / weights.sum()))
