"""Undo what a run declared, if it fails; what other threads declare meanwhile stays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ContextDecorator
from contextvars import ContextVar

from brancher.distributions.validation import enable_validation, is_validating

Undo = Callable[[], None]

_OPEN: ContextVar[list[Undo] | None] = ContextVar("brancher_declarations", default=None)


class undone_on_error(ContextDecorator):  # noqa: N801 - a context manager, called like a function
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

    __slots__ = ("_outer", "_own", "_validating")

    def __enter__(self) -> None:
        self._outer, self._own, self._validating = _OPEN.get(), list[Undo](), is_validating()
        _OPEN.set(self._own)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _OPEN.set(self._outer)
        if kind is None:
            if self._outer is not None:
                self._outer.extend(self._own)
            return
        enable_validation(self._validating)  # an interrupt may have kept a block inside from doing so
        for undo in reversed(self._own):
            undo()

    def _recreate_cm(self) -> undone_on_error:
        return undone_on_error()  # a function that is decorated may be running more than once


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
