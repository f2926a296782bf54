"""A law that stands for another one and differs in what carries gradients."""

from __future__ import annotations

from typing import Any

import torch

from brancher.distributions import Distribution


class WrappedLaw(Distribution):
    """Shapes, support and mean of another law.

    Args:
        law: the other law.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, law: Any) -> None:
        self.law = law
        super().__init__(law.batch_shape, law.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The other law's support."""
        return self.law.support

    @property
    def mean(self) -> torch.Tensor:
        """The other law's mean, shape B + E."""
        found: torch.Tensor = self.law.mean
        return found
