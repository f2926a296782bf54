"""Python's and torch's errors in a model, told in the words of models."""

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
        # A module's own signature says nothing; what it is called with goes to forward.
        signature = inspect.signature(getattr(fn, "forward", fn))
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


#: What torch says, and what that usually means in a model.
_HINTS = {
    "dtype": "tensors of two dtypes met: data from numpy or pandas are float64, counts int64, parameters and "
    "draws float32; convert the data with .float(), or call torch.set_default_dtype(torch.float64) first",
    "tensors used as indices": "draws of Bernoulli and of other laws over numbers are floats; index with "
    "draw.long(), or draw from Categorical",
    "is ambiguous": "where a site has a row for each plate, particle or enumerated value, Python can not "
    "branch on it; write torch.where(condition, a, b)",
}
_HINTS["scalar type"] = _HINTS["dtype"]


def hint_for(error: Exception) -> str | None:
    """What an error of torch usually means in a model; None for one that is not known."""
    text = str(error)
    return next((hint for key, hint in _HINTS.items() if key in text), None)
