"""TruncatedDistribution: any scalar law with a quantile function, confined to an interval."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as td
from torch.distributions import Distribution as TorchDistribution

from brancher.distributions import constraints
from brancher.distributions.anchors import anchor
from brancher.distributions.base import Distribution
from brancher.distributions.bounds import between, is_bound
from brancher.distributions.elementwise import example_of, open_uniform
from brancher.distributions.logistic import Logistic
from brancher.distributions.parameters import Number, expand_parameters, to_tensors
from brancher.distributions.shapes import Size, broadcast
from brancher.distributions.soft_laplace import SoftLaplace
from brancher.errors import DistributionError


class TruncatedDistribution(Distribution):
    """A scalar continuous law given ``low <= x <= high``.

    It needs the base's ``cdf`` and ``icdf``, and is as exact as they are: far in the upper tail a
    distribution function rounds to 1. Symmetric laws are mirrored there, so that only intervals
    whose mass underflows are out of reach; ``TruncatedNormal`` has no such limit.

    Args:
        base_dist: law with scalar events, ``cdf`` and ``icdf``.
        low: lower bound; None for the base's own.
        high: upper bound, > ``low``; None for the base's own.

    Raises:
        DistributionError: the bounds are in the wrong order, or hold no mass that ``cdf`` can tell.

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
        if self._validate_args and not bool((self._mass() > 0).all()):
            raise DistributionError(
                f"TruncatedDistribution: expected an interval with some of the mass of "
                f"{type(base_dist).__name__}, got {int((~(self._mass() > 0)).sum())} of {self.low.numel()} "
                f"in which {self.low.dtype} can tell none; use float64 or move the bounds"
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

    def _mirror(self) -> torch.Tensor | None:
        """Where a symmetric base is better seen in the mirror; None for a base that is not symmetric."""
        return self.low > self.base_dist.loc if isinstance(self.base_dist, _SYMMETRIC) else None

    def _reflect(self, value: torch.Tensor, is_mirrored: torch.Tensor) -> torch.Tensor:
        # Twice the location may be far larger than the distance to it.
        loc: torch.Tensor = self.base_dist.loc  # type: ignore[union-attr]
        return torch.where(is_mirrored, (loc - value) + loc, value)

    def _masses_below(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mass below the interval and below its end, counted from the far side where that is mirrored."""
        low, high, is_mirrored = self.low, self.high, self._mirror()
        if is_mirrored is not None:
            ends = self._reflect(high, is_mirrored), self._reflect(low, is_mirrored)
            low, high = torch.where(is_mirrored, ends[0], low), torch.where(is_mirrored, ends[1], high)
        return self._mass_below(low), self._mass_below(high)

    def _mass(self) -> torch.Tensor:
        below, above = self._masses_below()
        return above - below

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; -inf outside the interval, NaN where its mass underflows."""
        if self._validate_args:
            self._validate_sample(value)
        is_inside = (value >= self.low) & (value <= self.high)
        x = torch.where(is_inside, value, anchor(self.base_dist.support, value))
        mass = self._mass()
        log_mass = torch.where(mass > 0, mass, math.nan).log()
        return torch.where(is_inside, self.base_dist.log_prob(x) - log_mass, -math.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        (below, above), is_mirrored = self._masses_below(), self._mirror()
        if is_mirrored is None:
            return ((self.base_dist.cdf(value) - below) / (above - below)).clamp(0.0, 1.0)
        reached = self.base_dist.cdf(self._reflect(value, is_mirrored))
        passed = torch.where(is_mirrored, above - reached, reached - below)
        return (passed / (above - below)).clamp(0.0, 1.0)

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Value below which a draw falls with the given probability."""
        (below, above), is_mirrored = self._masses_below(), self._mirror()
        if is_mirrored is None:
            quantile = self.base_dist.icdf(below + value * (above - below))
        else:
            passed = torch.where(is_mirrored, 1.0 - value, value)
            quantile = self._reflect(self.base_dist.icdf(below + passed * (above - below)), is_mirrored)
        return quantile.clamp(self.low, self.high)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw by inversion, differentiably where the base's quantile function is."""
        return self.icdf(open_uniform(self._extended_shape(torch.Size(sample_shape)), self.low))


_SYMMETRIC = (td.Normal, td.Laplace, td.Cauchy, td.StudentT, Logistic, SoftLaplace)


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
