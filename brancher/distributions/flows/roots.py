"""Where an increasing function has a given value: by halving an interval, with the gradient of the root."""

from __future__ import annotations

from collections.abc import Callable

import torch

#: Halvings of an interval that holds a root; more do not change double precision.
HALVINGS = 60

#: Doublings of an interval until it holds a root.
DOUBLINGS = 30


def increasing_root(
    function: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    target: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
) -> torch.Tensor:
    """Return x with ``function(x) = target``, entry by entry, between ``low`` and ``high``.

    A last step of Newton's method carries the gradients of target and function.

    Args:
        function: from x to its values, which increase in x, and their slopes.
        target: the values.
        low: bounds below.
        high: bounds above.
    """
    with torch.no_grad():
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            is_low = function(middle)[0] < target
            low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
        x = (low + high) / 2
    value, slope = function(x)
    return x - (value - target) / slope


def bracket(
    function: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds between which an increasing function has a given value, found by doubling."""
    with torch.no_grad():
        low, high = -torch.ones_like(target), torch.ones_like(target)
        for _ in range(DOUBLINGS):
            low = torch.where(function(low)[0] > target, 2.0 * low, low)
            high = torch.where(function(high)[0] < target, 2.0 * high, high)
    return low, high
