"""Bijections of numbers, entry by entry."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.distributions import constraints
from torch.distributions.transforms import SigmoidTransform, Transform
from torch.distributions.transforms import SoftplusTransform as TorchSoftplusTransform
from torch.nn import functional as F

from brancher.distributions import constraints as own_constraints
from brancher.distributions.constraints import same_value
from brancher.distributions.matrix_transforms import exact_softplus, inverse_softplus
from brancher.distributions.shapes import broadcast_shapes
from brancher.errors import DistributionError


class SoftplusTransform(TorchSoftplusTransform):
    """``y = log(1 + exp(x))``, right to the last digit on both sides.

    Example:
        >>> SoftplusTransform().inv(torch.tensor(1000.0))
        tensor(1000.)
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TorchSoftplusTransform)

    def __hash__(self) -> int:
        return hash(SoftplusTransform)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return exact_softplus(x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return inverse_softplus(y)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log of the slope, which is a sigmoid."""
        return F.logsigmoid(x)


class ExtendedIntervalTransform(Transform):
    """Increasing map from the reals to an interval whose ends may be infinite, entry by entry.

    A sigmoid between two finite ends, an exponential from one, the identity without any.

    Args:
        lower: tensor; may hold -inf.
        upper: tensor; may hold inf.

    Example:
        >>> t = ExtendedIntervalTransform(torch.zeros(2), torch.tensor([1.0, torch.inf]))
        >>> t(torch.zeros(2))
        tensor([0.5000, 1.0000])
    """

    domain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, lower: torch.Tensor, upper: torch.Tensor, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.lower, self.upper = torch.broadcast_tensors(lower, upper)

    @property
    def codomain(self) -> Any:  # type: ignore[override]
        """The interval."""
        return own_constraints.extended_interval(self.lower, self.upper)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExtendedIntervalTransform):
            return False
        return same_value([self.lower, self.upper], [other.lower, other.upper])

    def __hash__(self) -> int:
        return hash(ExtendedIntervalTransform)

    def with_cache(self, cache_size: int = 1) -> ExtendedIntervalTransform:
        """Return the same map with another cache size."""
        return ExtendedIntervalTransform(self.lower, self.upper, cache_size)

    def _parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Which ends are finite, and the ends with a harmless number for an infinite one."""
        has_lower, has_upper = self.lower.isfinite(), self.upper.isfinite()
        lower = torch.where(has_lower, self.lower, 0.0)
        return has_lower, has_upper, lower, torch.where(has_upper, self.upper, lower + 1.0)

    def _pick(self, both: Any, only_lower: Any, only_upper: Any, neither: Any) -> torch.Tensor:
        has_lower, has_upper, _, _ = self._parts()
        bounded_below = torch.where(has_upper, both, only_lower)
        return torch.where(has_lower, bounded_below, torch.where(has_upper, only_upper, neither))

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        _, _, lower, upper = self._parts()
        between = lower + (upper - lower) * SigmoidTransform()(x)
        return self._pick(between, lower + x.exp(), upper - (-x).exp(), x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        has_lower, has_upper, lower, upper = self._parts()
        above = torch.where(has_lower, y - lower, 0.5)
        below = torch.where(has_upper, upper - y, 0.5)
        tiny = torch.finfo(y.dtype).tiny
        log_above, log_below = above.clamp(min=tiny).log(), below.clamp(min=tiny).log()
        return self._pick(log_above - log_below, log_above, -log_below, y)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log of the slope."""
        _, _, lower, upper = self._parts()
        between = (upper - lower).log() + F.logsigmoid(x) + F.logsigmoid(-x)
        return self._pick(between, x, -x, torch.zeros_like(x))


class ELUTransform(Transform):
    """``y = x`` above zero, ``exp(x) - 1`` below: the reals to those above -1.

    Example:
        >>> ELUTransform()(torch.tensor([-1.0, 2.0]))
        tensor([-0.6321,  2.0000])
    """

    domain = constraints.real
    codomain = constraints.greater_than(-1.0)
    bijective = True
    sign = +1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ELUTransform)

    def __hash__(self) -> int:
        return hash(ELUTransform)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return F.elu(x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return torch.where(y > 0, y, torch.where(y > 0, 0.0, y).log1p())

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log of the slope: x below zero, 0 above."""
        return x.clamp(max=0.0)


class LeakyReLUTransform(Transform):
    """``y = x`` above zero, ``slope x`` below.

    Args:
        negative_slope: > 0.

    Raises:
        DistributionError: the slope is not positive.

    Example:
        >>> LeakyReLUTransform()(torch.tensor([-1.0, 2.0]))
        tensor([-0.0100,  2.0000])
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, negative_slope: float = 0.01, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        if not negative_slope > 0:
            raise DistributionError(
                f"LeakyReLUTransform: expected negative_slope > 0, got {negative_slope}; 0.01 is usual"
            )
        self.negative_slope = float(negative_slope)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LeakyReLUTransform) and other.negative_slope == self.negative_slope

    def __hash__(self) -> int:
        return hash((LeakyReLUTransform, self.negative_slope))

    def with_cache(self, cache_size: int = 1) -> LeakyReLUTransform:
        """Return the same map with another cache size."""
        return LeakyReLUTransform(self.negative_slope, cache_size)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(y, 1.0 / self.negative_slope)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log of the slope: that of the negative side below zero, 0 above."""
        return torch.where(x >= 0, 0.0, math.log(self.negative_slope)).to(x.dtype)


class PositivePowerTransform(Transform):
    """``y = sign(x) |x|^exponent``, which keeps signs and is a map of all reals.

    Args:
        exponent: > 0, a number or a tensor that broadcasts.

    Raises:
        DistributionError: an exponent is not positive.

    Example:
        >>> PositivePowerTransform(2.0)(torch.tensor([-3.0, 2.0]))
        tensor([-9.,  4.])
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, exponent: float | torch.Tensor, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.exponent = torch.as_tensor(exponent)
        if not bool((self.exponent > 0).all()):
            raise DistributionError(
                f"PositivePowerTransform: expected exponent > 0, got {self.exponent.tolist()}; use "
                "PowerTransform for positive numbers"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PositivePowerTransform) and torch.equal(other.exponent, self.exponent)

    def __hash__(self) -> int:
        return hash(PositivePowerTransform)

    def with_cache(self, cache_size: int = 1) -> PositivePowerTransform:
        """Return the same map with another cache size."""
        return PositivePowerTransform(self.exponent, cache_size)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return x.sign() * x.abs() ** self.exponent

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y.sign() * y.abs() ** (1.0 / self.exponent)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``log(exponent |x|^(exponent - 1))``."""
        return self.exponent.log() + (self.exponent - 1.0) * x.abs().log()

    def forward_shape(self, shape: Any) -> torch.Size:
        """The shape joined with the exponent's."""
        return torch.Size(broadcast_shapes(shape, self.exponent.shape))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """The shape joined with the exponent's."""
        return torch.Size(broadcast_shapes(shape, self.exponent.shape))


def elu() -> ELUTransform:
    """Make an :class:`ELUTransform`."""
    return ELUTransform()


def leaky_relu() -> LeakyReLUTransform:
    """Make a :class:`LeakyReLUTransform`."""
    return LeakyReLUTransform()
