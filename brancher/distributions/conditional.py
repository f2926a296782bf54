"""Laws whose shape depends on a context, by conditional flows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributions import Distribution as TorchDistribution

from brancher.distributions.flows.conditional import (
    ConditionalComposeTransformModule,
    ConditionalTransform,
    ConditionalTransformModule,
    given,
)
from brancher.distributions.transformed import TransformedDistribution

__all__ = [
    "ConditionalComposeTransformModule",
    "ConditionalDistribution",
    "ConditionalTransform",
    "ConditionalTransformModule",
    "ConditionalTransformedDistribution",
]


class ConditionalDistribution(ABC):
    """What gives a distribution for a context."""

    @abstractmethod
    def condition(self, context: torch.Tensor) -> TorchDistribution:
        """The distribution for a context, whose last dimension is the context's length."""


class ConditionalTransformedDistribution(ConditionalDistribution):
    """Law of ``f_c(X)`` for a context c: a base sent through transforms, some of them conditional.

    Args:
        base_dist: law of X, or a :class:`ConditionalDistribution`.
        transforms: transforms and conditional ones, first to last.

    Example:
        >>> from brancher.distributions import ConditionalTransformedDistribution, Normal
        >>> from brancher.distributions.transforms import conditional_spline
        >>> law = ConditionalTransformedDistribution(Normal(torch.zeros(1), 1.0), [conditional_spline(1, 2)])
        >>> law.condition(torch.ones(5, 2)).log_prob(torch.zeros(5, 1)).shape
        torch.Size([5])
    """

    def __init__(self, base_dist: Any, transforms: Sequence[Any]) -> None:
        self.base_dist, self.transforms = base_dist, list(transforms)

    def condition(self, context: torch.Tensor) -> TransformedDistribution:
        """The law for a context."""
        parts = [given(part, context) for part in self.transforms]
        return TransformedDistribution(given(self.base_dist, context), parts)

    def clear_cache(self) -> None:
        """Let plain transforms forget their last draw; conditional ones are made anew for each context."""
        plain = [part for part in self.transforms if not hasattr(part, "condition")]
        if plain and not hasattr(self.base_dist, "condition"):
            TransformedDistribution(self.base_dist, plain).clear_cache()
