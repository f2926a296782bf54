"""The algebra of batch and event dimensions: Independent, MaskedDistribution, ExpandedDistribution."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributions as td
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import constraints as torch_constraints

from brancher.distributions.anchors import anchor
from brancher.distributions.base import Distribution
from brancher.distributions.shapes import Size, broadcast, broadcast_shapes, check_event, sum_rightmost
from brancher.errors import DistributionError, DistributionTypeError


class Independent(td.Independent, Distribution):  # type: ignore[type-arg]
    """A distribution whose rightmost batch dimensions count as event dimensions.

    Args:
        base_distribution: shape B + E.
        reinterpreted_batch_ndims: how many dimensions move from B to E; 0 <= n <= len(B).

    Example:
        >>> from brancher.distributions import Normal
        >>> d = Independent(Normal(torch.zeros(3, 2), 1.0), 1)
        >>> d.batch_shape, d.event_shape
        (torch.Size([3]), torch.Size([2]))
    """

    def __init__(
        self,
        base_distribution: TorchDistribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ) -> None:
        batch_shape, n = base_distribution.batch_shape, reinterpreted_batch_ndims
        if not 0 <= n <= len(batch_shape):
            raise DistributionError(
                f"Independent: expected 0 <= reinterpreted_batch_ndims <= {len(batch_shape)} batch "
                f"dimensions {tuple(batch_shape)} of {type(base_distribution).__name__}, got {n}; "
                "expand the distribution or lower the number"
            )
        cut = len(batch_shape) - n
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = n
        Distribution.__init__(
            self, batch_shape[:cut], batch_shape[cut:] + base_distribution.event_shape, validate_args
        )

    def expand(self, batch_shape: Size, _instance: Any = None) -> Independent:
        """Return a copy with the batch dimensions expanded to ``batch_shape``."""
        inner = self.event_shape[: self.reinterpreted_batch_ndims]
        new: Any = self.__new__(type(self)) if _instance is None else _instance
        Independent.__init__(
            new, self.base_dist.expand(torch.Size(batch_shape) + inner), self.reinterpreted_batch_ndims
        )
        self._copy_switch(new)
        return new  # type: ignore[no-any-return]

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Distribution:
        """Turn more batch dimensions into event dimensions, in one layer."""
        n = self._count_to_event(reinterpreted_batch_ndims)
        return Independent(self.base_dist, n + self.reinterpreted_batch_ndims) if n else self

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            check_event(self, value)  # the base checks values, but would broadcast a short event
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """Every value of one draw, for a base without reinterpreted dimensions."""
        if self.reinterpreted_batch_ndims:
            raise NotImplementedError(
                "Independent: expected no reinterpreted dimension to enumerate, got "
                f"{self.reinterpreted_batch_ndims}; enumerate before to_event"
            )
        values: torch.Tensor = self.base_dist.enumerate_support(expand=expand)
        return values

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Not determined by argument shapes: a wrapper takes a distribution."""
        raise NotImplementedError("Independent: shapes follow from the wrapped distribution")


class MaskedDistribution(Distribution):
    """A distribution whose log-probability counts only where a mask is true.

    Masked values are replaced by a fixed point of the support before the density is computed,
    so NaN or impossible data there reach neither the value nor any gradient.

    Args:
        base_dist: shape B + E.
        mask: a bool, or a tensor that broadcasts with B (and may enlarge it).

    Example:
        >>> from brancher.distributions import Normal
        >>> d = Normal(torch.zeros(2), 1.0).mask(torch.tensor([True, False]))
        >>> d.log_prob(torch.tensor([0.0, float("nan")]))
        tensor([-0.9189,  0.0000])
    """

    arg_constraints: dict[str, torch_constraints.Constraint] = {}

    def __init__(
        self, base_dist: TorchDistribution, mask: bool | torch.Tensor, validate_args: bool | None = None
    ) -> None:
        if isinstance(mask, torch.Tensor):
            mask = mask.bool()
            if mask.shape != base_dist.batch_shape:
                batch_shape = broadcast("mask", mask.shape, base_dist.batch_shape)
                base_dist, mask = base_dist.expand(batch_shape), mask.expand(batch_shape)
        elif not isinstance(mask, bool):
            raise DistributionTypeError(
                f"{type(base_dist).__name__}: expected mask as a bool or a tensor, got "
                f"{type(mask).__name__}; convert it with torch.as_tensor"
            )
        self._mask = mask
        self.base_dist = base_dist
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> MaskedDistribution:
        """Return a copy with the batch dimensions expanded to ``batch_shape``."""
        return MaskedDistribution(self.base_dist.expand(torch.Size(batch_shape)), self._mask)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_enumerate_support

    @torch_constraints.dependent_property
    def support(self) -> Any:
        """Support of the base distribution."""
        return self.base_dist.support

    @property
    def mean(self) -> torch.Tensor:
        return self.base_dist.mean

    @property
    def mode(self) -> torch.Tensor:
        return self.base_dist.mode

    @property
    def variance(self) -> torch.Tensor:
        return self.base_dist.variance

    def sample(self, sample_shape: Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        """Draw from the base distribution."""
        return self.base_dist.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        """Draw differentiably from the base distribution."""
        return self.base_dist.rsample(torch.Size(sample_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density where the mask is true, 0 elsewhere."""
        if self._mask is True:
            return self.base_dist.log_prob(value)
        if self._mask is False:
            batch = value.shape[: value.dim() - len(self.event_shape)]
            dtype = value.dtype if value.dtype.is_floating_point else torch.get_default_dtype()
            zero = torch.zeros((), dtype=dtype, device=value.device)
            return zero.expand(broadcast_shapes(batch, self.batch_shape))
        mask = self._mask
        aligned = mask.reshape(mask.shape + (1,) * len(self.event_shape))
        with torch.no_grad():
            harmless = anchor(self.support, value)
        safe = torch.where(aligned, value, harmless)
        return self._zero_out(self.base_dist.log_prob(safe))

    def _zero_out(self, quantity: torch.Tensor) -> torch.Tensor:
        """Keep a tensor of shape (..., B) where the mask is true."""
        mask: Any = self._mask
        if isinstance(mask, bool):
            return quantity if mask else torch.zeros_like(quantity)
        return torch.where(mask, quantity, 0.0)

    def entropy(self) -> torch.Tensor:
        """Entropy of the base where the mask is true, 0 elsewhere."""
        return self._zero_out(self.base_dist.entropy())

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """Every value of one draw, as for the base distribution."""
        return self.base_dist.enumerate_support(expand=expand)

    def __repr__(self) -> str:
        mask = self._mask if isinstance(self._mask, bool) else tuple(self._mask.shape)
        return f"MaskedDistribution({self.base_dist}, mask={mask})"


class ExpandedDistribution(Distribution):
    """Independent copies of a distribution that has no ``expand`` of its own.

    Args:
        base_dist: shape B + E.
        batch_shape: the shape that B broadcasts to.
    """

    arg_constraints: dict[str, torch_constraints.Constraint] = {}

    def __init__(
        self,
        base_dist: TorchDistribution,
        batch_shape: Size = torch.Size(),  # noqa: B008
    ) -> None:
        batch_shape = torch.Size(batch_shape)
        if broadcast("batch_shape", batch_shape, base_dist.batch_shape) != batch_shape:
            raise DistributionError(
                f"{type(base_dist).__name__}: expected a batch shape that {tuple(base_dist.batch_shape)} "
                f"expands to, got {tuple(batch_shape)}; sizes other than 1 must stay, at the right"
            )
        self.base_dist = base_dist
        super().__init__(batch_shape, base_dist.event_shape)

    def expand(self, batch_shape: Size, _instance: Any = None) -> ExpandedDistribution:
        """Return copies for a larger batch shape."""
        broadcast("batch_shape", torch.Size(batch_shape), self.batch_shape)
        return ExpandedDistribution(self.base_dist, batch_shape)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_enumerate_support

    @torch_constraints.dependent_property
    def support(self) -> Any:
        """Support of the base distribution."""
        return self.base_dist.support

    @property
    def mean(self) -> torch.Tensor:
        return self.base_dist.mean.expand(self.shape())

    @property
    def variance(self) -> torch.Tensor:
        return self.base_dist.variance.expand(self.shape())

    def sample(self, sample_shape: Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        """Draw each copy independently."""
        return self._draw(self.base_dist.sample, torch.Size(sample_shape))

    def rsample(self, sample_shape: Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        """Draw each copy independently and differentiably."""
        return self._draw(self.base_dist.rsample, torch.Size(sample_shape))

    def _draw(self, draw: Any, sample_shape: torch.Size) -> torch.Tensor:
        base = self.base_dist.batch_shape
        extra = self.batch_shape[: len(self.batch_shape) - len(base)]
        new = self.batch_shape[len(extra) :]
        grown = [i for i in range(len(base)) if base[i] != new[i]]
        x: torch.Tensor = draw(sample_shape + extra + torch.Size(new[i] for i in grown))
        # Every grown dimension was drawn on the left of B, where B itself has size 1.
        left = len(sample_shape) + len(extra)
        for done, i in enumerate(grown):
            here = left + len(grown) - done + i
            x = x.transpose(left, here).squeeze(left)
        return x

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        log_prob = self.base_dist.log_prob(value)
        return log_prob.expand(broadcast_shapes(log_prob.shape, self.batch_shape))

    def entropy(self) -> torch.Tensor:
        """Entropy of every copy."""
        return self.base_dist.entropy().expand(self.batch_shape)

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """Every value of one draw, shape (K,) + B + E, with ones for B unless ``expand``."""
        values = self.base_dist.enumerate_support(expand=False)
        flat = values.reshape(values.shape[:1] + (1,) * len(self.batch_shape) + self.event_shape)
        return flat.expand(values.shape[:1] + self.batch_shape + self.event_shape) if expand else flat

    def __repr__(self) -> str:
        return f"ExpandedDistribution({self.base_dist}, {tuple(self.batch_shape)})"


def expand_wrapper(d: Any, ours: type, theirs: type, batch_shape: Size, instance: Any) -> Distribution:
    """Expand by torch's method where the constructor is the one that method knows.

    A user's subclass with a constructor of its own may hold more than torch's method copies; it is
    wrapped whole instead.
    """
    if instance is None:
        if type(d).__init__ is not ours.__init__:  # type: ignore[misc]
            return ExpandedDistribution(d, batch_shape)
        instance = d.__new__(type(d))
    expand: Any = theirs.expand  # type: ignore[attr-defined]
    return expand(d, batch_shape, _instance=instance)  # type: ignore[no-any-return]
