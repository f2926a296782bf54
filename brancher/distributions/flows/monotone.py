"""What flows have in common that send each entry through an increasing function chosen by those before it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from brancher.distributions.flows.module import TransformModule
from brancher.distributions.flows.roots import bracket, increasing_root


class MonotoneAutoregressive(TransformModule):
    """``y_i = f(x_i; the entries before i)`` with ``f`` increasing in ``x_i``.

    Draws are quick; the inverse goes entry by entry, unless it is that of the last draw.

    Args:
        autoregressive_nn: gives the numbers of ``f``, such as an ``AutoRegressiveNN``.
    """

    def __init__(self, autoregressive_nn: Any) -> None:
        super().__init__(cache_size=1)
        self.arn = autoregressive_nn

    @abstractmethod
    def function(self, numbers: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values of ``f`` and logarithms of its slopes, both of the shape of ``x``, (..., d)."""

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.arn(x), x)[0]

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        x = torch.zeros_like(y)
        for entry in self.arn.permutation.tolist():
            numbers = self.arn(x)

            def value_and_slope(
                at: torch.Tensor, numbers: Any = numbers
            ) -> tuple[torch.Tensor, torch.Tensor]:
                value, log_slope = self.function(numbers, at)
                return value, log_slope.exp()

            # All entries are solved for; those after this one do not count yet.
            found = increasing_root(value_and_slope, y, *bracket(value_and_slope, y))
            is_here = torch.arange(y.shape[-1], device=y.device) == entry
            x = torch.where(is_here, found, x)
        return x

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        return self.function(self.arn(x), x)[1].sum(-1)
