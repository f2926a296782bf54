"""FoldedDistribution: the absolute value of a draw."""

from __future__ import annotations

import torch
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import expand_parameters
from brancher.distributions.shapes import Size
from brancher.errors import DistributionError


class FoldedDistribution(Distribution):
    """Absolute value of a draw from a law on the real line.

    Args:
        base_dist: law with scalar events and real support.

    Example:
        >>> from brancher.distributions import Normal
        >>> d = FoldedDistribution(Normal(0.0, 1.0))
        >>> round(float(d.log_prob(torch.tensor(0.0)) - Normal(0.0, 1.0).log_prob(torch.tensor(0.0))), 4)
        0.6931
    """

    support = constraints.nonnegative
    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, base_dist: TorchDistribution, validate_args: bool | None = None) -> None:
        if base_dist.event_shape or base_dist.support is not constraints.real:
            raise DistributionError(
                "FoldedDistribution: expected a base with scalar events and real support, got "
                f"{type(base_dist).__name__} with event shape {tuple(base_dist.event_shape)} and support "
                f"{base_dist.support}; fold before to_event"
            )
        self.base_dist = base_dist
        super().__init__(base_dist.batch_shape, validate_args=validate_args)

    expand = expand_parameters

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw from the base and drop the sign."""
        return self.base_dist.sample(torch.Size(sample_shape)).abs()

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably from the base and drop the sign."""
        return self.base_dist.rsample(torch.Size(sample_shape)).abs()

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; -inf below zero."""
        if self._validate_args:
            self._validate_sample(value)
        both = torch.logaddexp(self.base_dist.log_prob(value), self.base_dist.log_prob(-value))
        return torch.where(value >= 0, both, -torch.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return self.base_dist.cdf(value) - self.base_dist.cdf(-value)
