"""When warmup learns what: Stan's windows.

A fast stretch for the step size, slow windows that double and end with a new mass matrix each, and a last
fast stretch (Stan reference manual, "Automatic parameter tuning").
"""

from __future__ import annotations

from typing import NamedTuple

_FIRST, _LAST, _WINDOW = 75, 50, 25


class Window(NamedTuple):
    """Draws ``start`` to ``end - 1`` of warmup; ``learns_mass`` says whether a new mass follows them."""

    start: int
    end: int
    learns_mass: bool


def windows(warmup_steps: int) -> list[Window]:
    """Cut warmup into windows.

    Example:
        >>> [w.end for w in windows(1000)]
        [75, 100, 150, 250, 450, 950, 1000]
        >>> windows(10)
        [Window(start=0, end=10, learns_mass=False)]
    """
    if warmup_steps < 20:
        return [Window(0, warmup_steps, False)] if warmup_steps else []
    first, last, size = _FIRST, _LAST, _WINDOW
    if first + size + last > warmup_steps:
        first, last = int(0.15 * warmup_steps), int(0.1 * warmup_steps)
        size = warmup_steps - first - last
    plan = [Window(0, first, False)]
    begin, slow_end = first, warmup_steps - last
    while begin < slow_end:
        # A window that would leave too little for its successor takes the rest.
        end = begin + size
        end = slow_end if end + 2 * size > slow_end else end
        plan.append(Window(begin, end, True))
        begin, size = end, 2 * size
    return [*plan, Window(slow_end, warmup_steps, False)]
