"""DiscreteUniform: every integer of a range is equally likely."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import expand_parameters
from brancher.distributions.shapes import Size, broadcast
from brancher.errors import DistributionError


class DiscreteUniform(Distribution):
    """Uniform law on the integers from ``low`` to ``high``, both included.

    Draws have the dtype of ``low``; Python integers give int64.

    Args:
        low: smallest value.
        high: largest value, >= ``low``.

    Example:
        >>> DiscreteUniform(1, 4).log_prob(torch.tensor(2)).exp()
        tensor(0.2500)
    """

    has_enumerate_support = True
    low: torch.Tensor
    high: torch.Tensor
    arg_constraints = {
        "low": constraints.dependent(is_discrete=True, event_dim=0),
        "high": constraints.dependent(is_discrete=True, event_dim=0),
    }

    def __init__(
        self, low: torch.Tensor | int, high: torch.Tensor | int, validate_args: bool | None = None
    ) -> None:
        bounds = torch.as_tensor(low), torch.as_tensor(high)
        shape = broadcast("high", bounds[0].shape, bounds[1].shape)
        self.low, self.high = bounds[0].expand(shape), bounds[1].to(bounds[0].dtype).expand(shape)
        # Known here, so that enumeration never has to read them back from a device.
        self._range = (low, high) if isinstance(low, int) and isinstance(high, int) else None
        super().__init__(shape, validate_args=validate_args)
        if self._validate_args and not bool(self._is_range().all()):
            raise DistributionError(
                "DiscreteUniform: expected integers with low <= high, got "
                f"{int((~self._is_range()).sum())} offending of {self.low.numel()} pairs; "
                "swap them, or round them"
            )

    def _is_range(self) -> torch.Tensor:
        return (self.low <= self.high) & (self.low % 1 == 0) & (self.high % 1 == 0)

    expand = expand_parameters

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The integers of the range."""
        return constraints.integer_interval(self.low, self.high)

    def _count(self) -> torch.Tensor:
        count = self.high - self.low + 1
        return count if count.dtype.is_floating_point else count.to(torch.get_default_dtype())

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw integers; the bias of the modulus is below 2^-30 for ranges below 2^32."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            bits = torch.randint(2**62, shape, device=self.low.device)
            size = (self.high - self.low + 1).to(torch.int64)
            return self.low + (bits % size).to(self.low.dtype)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-mass in nats; -inf outside the range."""
        if self._validate_args:
            self._validate_sample(value)
        is_inside = (value >= self.low) & (value <= self.high)
        return torch.where(is_inside, -self._count().log(), -torch.inf)

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Probability of a draw up to ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        return ((value.floor() - self.low + 1) / self._count()).clamp(0.0, 1.0)

    @property
    def mean(self) -> torch.Tensor:
        return self.low + (self._count() - 1.0) / 2.0

    @property
    def variance(self) -> torch.Tensor:
        return (self._count() ** 2 - 1.0) / 12.0

    def entropy(self) -> torch.Tensor:
        """Entropy in nats."""
        return self._count().log()

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """Every integer of the range, shape (K,) + B, or ones for B.

        Raises:
            DistributionError: the range differs within the batch.
        """
        low, high = self._range or self._common_range()
        values = torch.arange(low, high + 1, dtype=self.low.dtype, device=self.low.device)
        values = values.reshape((-1, *(1,) * len(self.batch_shape)))
        return values.expand((-1, *self.batch_shape)) if expand else values

    def _common_range(self) -> tuple[int, int]:
        low, high = int(self.low.min()), int(self.high.max())
        if not bool(((self.low == low) & (self.high == high)).all()):
            raise DistributionError(
                f"DiscreteUniform: expected one range in the whole batch to enumerate, got ranges "
                f"within {low} to {high}"
            )
        return low, high
