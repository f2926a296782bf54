"""What writers of guides import from Pyro's guide modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

from brancher.errors import GuideError
from brancher.handlers import Message, Trace
from brancher.infer.checks import check_pair
from brancher.nn import PyroModule

__all__ = [
    "check_model_guide_match",
    "deep_getattr",
    "deep_setattr",
    "helpful_support_errors",
    "prototype_hide_fn",
]


def deep_getattr(obj: Any, key: str) -> Any:
    """An attribute of attributes: ``deep_getattr(module, "a.b.c")``."""
    return reduce(getattr, key.split("."), obj)


def deep_setattr(obj: Any, key: str, val: Any) -> None:
    """Set an attribute of attributes; modules that are missing on the way are made.

    Example:
        >>> from brancher.infer.autoguide.guides import deep_setattr
        >>> from brancher.nn import PyroModule
        >>> module = PyroModule()
        >>> deep_setattr(module, "locs.x", torch.nn.Parameter(torch.zeros(2)))
        >>> [name for name, _ in module.named_parameters()]
        ['locs.x']
    """
    *way, last = key.split(".")
    for name in way:
        if not hasattr(obj, name):
            setattr(obj, name, PyroModule())
        obj = getattr(obj, name)
    setattr(obj, last, val)


def prototype_hide_fn(msg: Message) -> bool:
    """Whether a site is none that a guide must draw: for ``block(model, prototype_hide_fn)``."""
    return msg.type != "sample" or msg.is_observed


@contextmanager
def helpful_support_errors(site: Message, *, raise_warnings: bool = False) -> Iterator[None]:
    """Say at which site a law does not tell where its values lie.

    Args:
        site: the site.
        raise_warnings: there for programs that pass it.

    Raises:
        GuideError: a law without a support was asked for it inside the block.
    """
    try:
        yield
    except NotImplementedError as error:
        raise GuideError(
            f"site '{site.name}': expected a law with a support, got {type(site.fn).__name__} without one; "
            "give it a support, or hide the site with handlers.block"
        ) from error


def check_model_guide_match(
    model_trace: Trace, guide_trace: Trace, max_plate_nesting: float = float("inf")
) -> None:
    """Check that guide and model speak of the same latent sites.

    Args:
        model_trace: of the model.
        guide_trace: of the guide.
        max_plate_nesting: there for programs that pass it.

    Raises:
        GuideError: a latent site is missing or extra, or has another event rank.
    """
    check_pair(model_trace, guide_trace)
