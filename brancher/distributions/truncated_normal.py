"""TruncatedNormal: a normal law confined to an interval, exact in the far tails."""

from __future__ import annotations

import math
from typing import Any

import torch

from brancher.distributions import constraints
from brancher.distributions.bounds import between, is_bound
from brancher.distributions.elementwise import Elementwise
from brancher.distributions.normal_tail import distance_at, mass_points, mass_within, masses
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.errors import DistributionError


class TruncatedNormal(Elementwise):
    """Normal law of mean ``loc`` and standard deviation ``scale`` given ``low <= x <= high``.

    Intervals a hundred standard deviations away keep their digits: masses are taken relative to
    the density at the interval's point nearest to ``loc``, its mode.

    Args:
        loc: mean before truncation.
        scale: standard deviation before truncation; > 0.
        low: lower bound; the number -inf for none.
        high: upper bound, > ``low``; the number inf for none.

    Example:
        >>> d = TruncatedNormal(0.0, 1.0, low=30.0)
        >>> round(float(d.mean), 4)
        30.0333
    """

    has_rsample = True
    loc: torch.Tensor
    scale: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "low": constraints.dependent(is_discrete=False, event_dim=0),
        "high": constraints.dependent(is_discrete=False, event_dim=0),
    }

    def __init__(
        self,
        loc: Number,
        scale: Number,
        low: Number = -math.inf,
        high: Number = math.inf,
        validate_args: bool | None = None,
    ) -> None:
        self._has_low, self._has_high = is_bound(low), is_bound(high)
        super().__init__(validate_args, loc=loc, scale=scale, low=low, high=high)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise DistributionError(
                "TruncatedNormal: expected low < high everywhere, got "
                f"{int((~(self.low < self.high)).sum())} of {self.low.numel()} intervals empty or NaN; "
                "swap or widen them"
            )

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """The closed interval; half a line or the line where a bound is missing."""
        return between(self.low if self._has_low else None, self.high if self._has_high else None)

    @property
    def mode(self) -> torch.Tensor:
        return self.loc.clamp(self.low, self.high)

    def _offset(self, mode: torch.Tensor | None = None) -> torch.Tensor:
        """Signed distance of the mode from ``loc`` in standard deviations."""
        return ((self.mode if mode is None else mode) - self.loc) / self.scale

    def _widths(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Distance of the mode from both bounds in standard deviations."""
        mode = self.mode
        return self._units(mode - self.low), self._units(self.high - mode)

    def _units(self, distance: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        # An infinite distance must not reach the scale's gradient.
        is_infinite = torch.isinf(distance)
        units = torch.where(is_infinite, 0.0, distance) / (self.scale if scale is None else scale)
        return torch.where(is_infinite, math.inf, units)

    def _masses(self, mode: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Masses within and beyond both bounds, left and right in a last dimension; the mass of one side."""
        distances = torch.stack([mode - self.low, self.high - mode], -1)
        within, beyond, whole = masses(t.unsqueeze(-1), self._units(distances, self.scale.unsqueeze(-1)))
        return within, beyond, whole.squeeze(-1)

    def _mass(self) -> torch.Tensor:
        mode = self.mode
        return self._masses(mode, self._offset(mode).abs())[0].sum(-1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; -inf outside the interval."""
        if self._validate_args:
            self._validate_sample(value)
        is_inside = (value >= self.low) & (value <= self.high)
        mode = self.mode
        offset = self._offset(mode)
        mass = self._masses(mode, offset.abs())[0].sum(-1)
        d = torch.where(is_inside, value - mode, 0.0) / self.scale
        log_prob = -d * (0.5 * d + offset) - self.scale.log() - mass.log()
        return torch.where(is_inside, log_prob, -math.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        t, (left, right) = self._offset().abs(), self._widths()
        below = torch.minimum(self._units((self.mode - value).clamp(min=0.0)), left)
        above = torch.minimum(self._units((value - self.mode).clamp(min=0.0)), right)
        is_below = value < self.mode
        safe = torch.where(is_below & ~torch.isinf(below), below, 0.0)
        outer = (-safe * (t + 0.5 * safe)).exp() * mass_within(t + safe, left - safe)
        outer = torch.where(torch.isinf(below), 0.0, outer)
        inner = mass_within(t, left) + mass_within(t, above)
        return torch.where(is_below, outer, inner) / self._mass()

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Value below which a draw falls with the given probability; differentiable."""
        mode = self.mode
        t = self._offset(mode).abs()
        within, beyond, whole = self._masses(mode, t)
        total, log_whole = within.sum(-1), whole.log()
        beyond_left = value * total + beyond[..., 0]
        beyond_right = (1.0 - value) * total + beyond[..., 1]
        is_right = beyond_right < beyond_left
        beyond = torch.where(is_right, beyond_right, beyond_left)
        # A mass of nothing lies beyond the bound itself, which may be infinitely far away.
        is_bound = beyond <= 0
        y = log_whole - torch.where(is_bound, whole, beyond).log()
        s = torch.where(is_bound, math.inf, distance_at(t, y.clamp(min=0.0), log_whole))
        x = mode + self.scale * torch.where(is_right, s, -s)
        return x.clamp(self.low, self.high)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably, by inversion."""
        return self.icdf(self._uniform(sample_shape))

    def _moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the distance from the mode, in standard deviations."""
        t, (left, right) = self._offset().abs(), self._widths()
        (s_left, w_left), (s_right, w_right) = mass_points(t, left), mass_points(t, right)
        s, w = torch.cat([-s_left, s_right], -1), torch.cat([w_left, w_right], -1)
        w = w / w.sum(-1, keepdim=True)
        mean = (w * s).sum(-1)
        return mean, (w * (s - mean.unsqueeze(-1)) ** 2).sum(-1)

    @property
    def mean(self) -> torch.Tensor:
        return self.mode + self.scale * self._moments()[0]

    @property
    def variance(self) -> torch.Tensor:
        return self.scale**2 * self._moments()[1]

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        mean, variance = self._moments()
        energy = 0.5 * (variance + mean * mean) + mean * self._offset()
        return energy + self.scale.log() + self._mass().log()
