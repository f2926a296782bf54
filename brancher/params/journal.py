"""Undo what a run declared, if it fails; what other threads declare meanwhile stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from brancher.distributions.validation import enable_validation, is_validating

Undo = Callable[[], None]

_OPEN: ContextVar[list[Undo] | None] = ContextVar("brancher_declarations", default=None)


@contextmanager
def undone_on_error() -> Iterator[None]:
    """Forget the parameters and modules that the block declared in this thread or task, if it raises.

    Example:
        >>> from brancher.params import ParamStore
        >>> store = ParamStore()
        >>> try:
        ...     with undone_on_error():
        ...         value = store.declare("loc", 0.0)
        ...         raise ValueError
        ... except ValueError:
        ...     print(list(store))
        []
    """
    outer, own, validating = _OPEN.get(), list[Undo](), is_validating()
    try:
        _OPEN.set(own)
        yield
    except BaseException:
        enable_validation(validating)  # an interrupt may have kept a block inside from doing so
        for undo in reversed(own):
            undo()
        raise
    else:
        if outer is not None:
            outer.extend(own)
    finally:
        _OPEN.set(outer)


def open_list() -> list[Undo] | None:
    """Where declarations are noted here; None where nobody would undo them."""
    return _OPEN.get()


def note_in(undos: list[Undo] | None) -> None:
    """Note declarations there from now on: for putting back what an interrupted block left."""
    _OPEN.set(undos)


def note(undo: Undo) -> None:
    """Say how to undo a declaration, should the run around it fail."""
    own = _OPEN.get()
    if own is not None:
        own.append(undo)
