"""MaskedMixture: one of two laws, chosen entry by entry."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import constraints

from brancher.distributions.anchors import anchor
from brancher.distributions.base import Distribution
from brancher.distributions.shapes import Size, broadcast
from brancher.errors import DistributionError, DistributionTypeError


class MaskedMixture(Distribution):
    """``component1`` where the mask is true, ``component0`` elsewhere.

    Args:
        mask: bool tensor that broadcasts with both batch shapes.
        component0: the law where the mask is false.
        component1: the law where the mask is true; of the same event shape.

    Raises:
        DistributionError: event shapes differ, or one law is discrete and the other is not.

    Example:
        >>> from brancher.distributions import Normal
        >>> d = MaskedMixture(torch.tensor([False, True]), Normal(0.0, 1.0), Normal(5.0, 1.0))
        >>> d.mean
        tensor([0., 5.])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        mask: torch.Tensor,
        component0: TorchDistribution,
        component1: TorchDistribution,
        validate_args: bool | None = None,
    ) -> None:
        _check(mask, component0, component1)
        shape = broadcast("mask", mask.shape, component0.batch_shape, component1.batch_shape)
        self.mask_tensor = mask.expand(shape)
        self.component0 = component0 if component0.batch_shape == shape else component0.expand(shape)
        self.component1 = component1 if component1.batch_shape == shape else component1.expand(shape)
        super().__init__(shape, component0.event_shape, validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.component0.has_rsample and self.component1.has_rsample

    @constraints.dependent_property
    def support(self) -> Any:
        """Entry by entry the support of the law that the mask picks."""
        return _MaskedSupport(self.mask_tensor, self.component0.support, self.component1.support)

    def expand(self, batch_shape: Size, _instance: Any = None) -> MaskedMixture:
        """Return a copy with the batch dimensions expanded to ``batch_shape``."""
        shape = torch.Size(batch_shape)
        new = MaskedMixture(self.mask_tensor.expand(shape), self.component0.expand(shape), self.component1)
        self._copy_switch(new)
        return new

    def _pick(self, of0: torch.Tensor, of1: torch.Tensor) -> torch.Tensor:
        mask = self.mask_tensor
        return torch.where(mask.reshape(mask.shape + (1,) * len(self.event_shape)), of1, of0)

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw from both laws and pick."""
        shape = torch.Size(sample_shape)
        return self._pick(self.component0.sample(shape), self.component1.sample(shape))

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably from both laws and pick."""
        shape = torch.Size(sample_shape)
        return self._pick(self.component0.rsample(shape), self.component1.rsample(shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B.

        Each law sees a fixed point of its own support where the other one is picked, so a value
        that is impossible under the law not picked reaches no gradient.
        """
        if self._validate_args:
            self._validate_sample(value)
        value0 = self._pick(value, _point(self.component0.support, value))
        value1 = self._pick(_point(self.component1.support, value), value)
        return torch.where(
            self.mask_tensor, self.component1.log_prob(value1), self.component0.log_prob(value0)
        )

    @property
    def mean(self) -> torch.Tensor:
        return self._pick(self.component0.mean, self.component1.mean)

    @property
    def variance(self) -> torch.Tensor:
        return self._pick(self.component0.variance, self.component1.variance)


class _MaskedSupport(constraints.Constraint):
    def __init__(self, mask: torch.Tensor, support0: Any, support1: Any) -> None:
        self.mask, self.support0, self.support1 = mask, support0, support1
        self.is_discrete = support0.is_discrete
        self.event_dim = support0.event_dim

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return torch.where(self.mask, self.support1.check(value), self.support0.check(value))

    def anchor(self, value: torch.Tensor) -> torch.Tensor:
        """Return a point of the region, for masked-out values."""
        mask = self.mask.reshape(self.mask.shape + (1,) * self.event_dim)
        return torch.where(mask, _point(self.support1, value), _point(self.support0, value))

    def __repr__(self) -> str:
        return f"MaskedSupport({self.support0}, {self.support1})"


def _point(support: Any, value: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(anchor(support, value)).to(value)


def _check(mask: Any, component0: TorchDistribution, component1: TorchDistribution) -> None:
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        got = f"a tensor of {mask.dtype}" if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise DistributionTypeError(
            f"MaskedMixture: expected parameter 'mask' as a bool tensor, got {got}; convert it with .bool()"
        )
    if component0.event_shape != component1.event_shape:
        raise DistributionError(
            "MaskedMixture: expected components of one event shape, got "
            f"{tuple(component0.event_shape)} and {tuple(component1.event_shape)}; see to_event"
        )
    kinds = [component0.support.is_discrete, component1.support.is_discrete]  # type: ignore[union-attr]
    if kinds[0] != kinds[1]:
        raise DistributionError(
            "MaskedMixture: expected two discrete or two continuous components, got "
            f"{type(component0).__name__} and {type(component1).__name__}"
        )
