"""Why a site's log-density is not a number: a parameter or a value that has left its place."""

from __future__ import annotations

from typing import Any

import torch

from brancher.distributions import ExpandedDistribution, Independent, MaskedDistribution
from brancher.distributions.shapes import remedy, words
from brancher.distributions.validation import validation_enabled
from brancher.handlers import Message

_WRAPPERS = (Independent, ExpandedDistribution, MaskedDistribution, torch.distributions.Independent)


def inside(fn: Any) -> Any:
    """The distribution inside ``to_event``, ``expand`` and ``mask``."""
    while isinstance(fn, _WRAPPERS):
        fn = fn.base_dist
    return fn


def cause_of(site: Message) -> str:
    """Say which parameter or value of a site is out of place, and what to do; empty where none is."""
    with torch.no_grad(), validation_enabled(False):
        return _parameter_outside(inside(site.fn)) or _value_outside(site)


def _parameter_outside(fn: Any) -> str:
    for name, constraint in getattr(fn, "arg_constraints", {}).items():
        value = fn.__dict__.get(name)
        if isinstance(value, torch.Tensor) and value.numel() and not _all_in(constraint, value):
            return (
                f"; its {name} is not {words(constraint)}: {remedy(constraint)}, or give the param that "
                "constraint"
            )
    return ""


def _value_outside(site: Message) -> str:
    support = getattr(site.fn, "support", None)
    if not isinstance(site.value, torch.Tensor) or support is None or _all_in(support, site.value):
        return ""
    family = type(inside(site.fn)).__name__
    what = "correct the data" if site.is_observed else "guide it by a law on that support, as AutoNormal does"
    return f"; its value is outside the support {words(support)} of {family}: {what}"


def _all_in(constraint: Any, value: torch.Tensor) -> bool:
    try:
        return bool(constraint.check(value).all())
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return True  # a constraint that depends on what is not here says nothing
