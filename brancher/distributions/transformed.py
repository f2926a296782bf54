"""A distribution pushed through transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributions as td
from torch.distributions import Distribution as TorchDistribution
from torch.distributions.transforms import ComposeTransform, Transform

from brancher.distributions.algebra import Independent, expand_wrapper
from brancher.distributions.base import Distribution
from brancher.distributions.shapes import Size
from brancher.errors import DistributionError, DistributionTypeError


class TransformedDistribution(td.TransformedDistribution, Distribution):
    """Law of ``f(X)``: draws of a base distribution sent through transforms, first to last.

    Args:
        base_distribution: law of X.
        transforms: one transform or a list.

    Raises:
        DistributionTypeError: something else is in ``transforms``.
        DistributionError: the base has fewer dimensions than the transforms take.

    Example:
        >>> from brancher.distributions import Normal, transforms
        >>> d = TransformedDistribution(Normal(0.0, 1.0), [transforms.ExpTransform()])
        >>> d.log_prob(torch.tensor(1.0))
        tensor(-0.9189)
    """

    def __init__(
        self,
        base_distribution: TorchDistribution,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:
        parts: list[Any] = list(transforms) if isinstance(transforms, (list, tuple)) else [transforms]
        for part in parts:
            if not isinstance(part, Transform):
                raise DistributionTypeError(
                    f"{type(self).__name__}: expected transforms as a Transform or a list of them, got "
                    f"{type(part).__name__} among them; use brancher.distributions.transforms"
                )
        shape = base_distribution.batch_shape + base_distribution.event_shape
        needed = ComposeTransform(parts).domain.event_dim
        if len(shape) < needed:
            raise DistributionError(
                f"{type(self).__name__}: expected a base distribution with at least {needed} dimensions, "
                f"got {type(base_distribution).__name__} of shape {tuple(shape)}; expand it"
            )
        super().__init__(base_distribution, parts, validate_args=validate_args)
        if type(self.base_dist) is td.Independent:
            inner: Any = self.base_dist
            self.base_dist = Independent(inner.base_dist, inner.reinterpreted_batch_ndims)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Distribution:
        """Return a copy with the batch dimensions expanded to ``batch_shape``."""
        ours, theirs = TransformedDistribution, td.TransformedDistribution
        return expand_wrapper(self, ours, theirs, batch_shape, _instance)

    def clear_cache(self) -> None:
        """Let the transforms forget their last draw, as before a step of training on data."""
        for transform in self.transforms:
            for part in transform.parts if isinstance(transform, ComposeTransform) else [transform]:
                if getattr(part, "_cache_size", 0):
                    part._cached_x_y = None, None

    def _monotonize_cdf(self, value: torch.Tensor) -> torch.Tensor:
        """A probability of the base as one of the image, or back; torch's detour by 1/2 loses tails."""
        sign: Any = 1
        for transform in self.transforms:
            sign = sign * transform.sign
        if isinstance(sign, int):
            return value if sign == 1 else 1.0 - value
        return torch.where(sign > 0, value, 1.0 - value)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Not determined by argument shapes: a wrapper takes a distribution."""
        raise NotImplementedError(f"{cls.__name__}: shapes follow from the wrapped distribution")
