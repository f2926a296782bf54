"""TruncatedDistribution: any scalar law with a quantile function, confined to an interval."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.distributions import Distribution as TorchDistribution

from brancher.distributions import constraints
from brancher.distributions.anchors import anchor
from brancher.distributions.base import Distribution
from brancher.distributions.bounds import between, is_bound
from brancher.distributions.elementwise import example_of, open_uniform
from brancher.distributions.parameters import Number, expand_parameters, to_tensors
from brancher.distributions.shapes import Size, broadcast
from brancher.errors import DistributionError


class TruncatedDistribution(Distribution):
    """A scalar continuous law given ``low <= x <= high``.

    It needs the base's ``cdf`` and ``icdf``, and is as exact as they are: far in the upper tail a
    distribution function rounds to 1. ``TruncatedNormal`` has no such limit.

    Args:
        base_dist: law with scalar events, ``cdf`` and ``icdf``.
        low: lower bound; None for the base's own.
        high: upper bound, > ``low``; None for the base's own.

    Example:
        >>> from brancher.distributions import Logistic
        >>> TruncatedDistribution(Logistic(0.0, 1.0), low=0.0).cdf(torch.tensor(0.0))
        tensor(0.)
    """

    arg_constraints: dict[str, constraints.Constraint] = {
        "low": constraints.dependent(is_discrete=False, event_dim=0),
        "high": constraints.dependent(is_discrete=False, event_dim=0),
    }

    def __init__(
        self,
        base_dist: TorchDistribution,
        low: Number | None = None,
        high: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        _check_base(base_dist)
        self._has_low = is_bound(low) or hasattr(base_dist.support, "lower_bound")
        self._has_high = is_bound(high) or hasattr(base_dist.support, "upper_bound")
        bounds = (-math.inf if low is None else low, math.inf if high is None else high)
        low, high, _ = to_tensors(self, low=bounds[0], high=bounds[1], base=example_of(base_dist))
        shape = broadcast("low, high", low.shape, high.shape, base_dist.batch_shape)
        low, high = _within(base_dist.support, low, high)
        self.low, self.high = low.expand(shape), high.expand(shape)
        self.base_dist = base_dist if base_dist.batch_shape == shape else base_dist.expand(shape)
        super().__init__(shape, validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise DistributionError(
                f"TruncatedDistribution: expected low < high within the support of "
                f"{type(base_dist).__name__}, got {int((~(self.low < self.high)).sum())} of "
                f"{self.low.numel()} intervals empty; "
                "swap or widen them"
            )

    expand = expand_parameters

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """The closed interval; half a line where a bound is missing."""
        return between(self.low if self._has_low else None, self.high if self._has_high else None)

    def _mass_below(self, bound: torch.Tensor) -> torch.Tensor:
        """The base's distribution function, also at infinite bounds."""
        is_infinite = torch.isinf(bound)
        inner = self.base_dist.cdf(torch.where(is_infinite, anchor(self.base_dist.support, bound), bound))
        return torch.where(is_infinite, (bound > 0).to(inner.dtype), inner)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; -inf outside the interval."""
        if self._validate_args:
            self._validate_sample(value)
        is_inside = (value >= self.low) & (value <= self.high)
        x = torch.where(is_inside, value, anchor(self.base_dist.support, value))
        mass = self._mass_below(self.high) - self._mass_below(self.low)
        return torch.where(is_inside, self.base_dist.log_prob(x) - mass.log(), -math.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        below, above = self._mass_below(self.low), self._mass_below(self.high)
        return ((self.base_dist.cdf(value) - below) / (above - below)).clamp(0.0, 1.0)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Value below which a draw falls with the given probability."""
        below, above = self._mass_below(self.low), self._mass_below(self.high)
        return self.base_dist.icdf(below + value * (above - below)).clamp(self.low, self.high)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw by inversion, differentiably where the base's quantile function is."""
        return self.icdf(open_uniform(self._extended_shape(torch.Size(sample_shape)), self.low))


def _check_base(base_dist: TorchDistribution) -> None:
    support = base_dist.support
    if base_dist.event_shape or support.is_discrete:  # type: ignore[union-attr]
        raise DistributionError(
            "TruncatedDistribution: expected a continuous base with scalar events, got "
            f"{type(base_dist).__name__} with event shape {tuple(base_dist.event_shape)} and "
            f"support {support}"
        )


def _within(support: Any, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Narrow bounds to those that the support itself has."""
    if hasattr(support, "lower_bound"):
        low = low.clamp(min=support.lower_bound)
    if hasattr(support, "upper_bound"):
        high = high.clamp(max=support.upper_bound)
    return low, high
