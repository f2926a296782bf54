"""Arguments that a model or guide can not take, told in the words of models and guides."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from brancher.errors import HandlerTypeError


def refuse_arguments(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], error: TypeError
) -> None:
    """Raise for a call that does not fit a function's signature; do nothing for one that does.

    Raises:
        HandlerTypeError: naming the function, what it takes and what it was given.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some callables show no signature
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as misfit:
        name = getattr(fn, "__name__", type(fn).__name__)
        given = [*(type(each).__name__ for each in args), *(f"{key}=" for key in kwargs)]
        raise HandlerTypeError(
            f"{name}: expected the arguments {signature}, got ({', '.join(given)}), {misfit}; a model and "
            "its guide are called with the same arguments, and a guide may take *args and **kwargs"
        ) from error
