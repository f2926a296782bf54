"""``value.unconstrained()``: from a parameter's value to the leaf that an optimizer moves."""

from __future__ import annotations

import weakref
from typing import Any

import torch


class LeafOf:
    """What ``unconstrained`` is on a parameter's value: called, it returns the leaf.

    The reference is weak, for the value of an unconstrained parameter is its own leaf.
    """

    __slots__ = ("_leaf",)

    def __init__(self, leaf: torch.Tensor) -> None:
        self._leaf = weakref.ref(leaf)

    def __call__(self) -> torch.Tensor | None:
        """The leaf; None when it is gone."""
        return self._leaf()

    def __reduce__(self) -> Any:
        # A saved tensor must load where only plain types are allowed, and has left its store anyway.
        return (set, ())


def show_leaf(value: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    """Let a parameter's value tell its leaf, as training loops written for Pyro ask it to.

    Example:
        >>> value = show_leaf(torch.tensor(1.0).exp(), leaf := torch.tensor(1.0))
        >>> value.unconstrained() is leaf
        True
    """
    known = value.__dict__
    if "unconstrained" not in known or value is not leaf:
        known["unconstrained"] = LeafOf(leaf)
    return value
