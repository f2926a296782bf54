"""One switch for argument checking, task-local and independent of ``python -O``."""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar

_ENABLED: ContextVar[bool] = ContextVar("brancher_validation", default=True)


def is_validating() -> bool:
    """Tell whether arguments and values are checked in this thread or task."""
    return _ENABLED.get()


def enable_validation(is_validate: bool = True) -> None:
    """Switch the checking of arguments and values on or off in this thread or task.

    Example:
        >>> enable_validation(False); is_validating()
        False
        >>> enable_validation(True); is_validating()
        True
    """
    _ENABLED.set(bool(is_validate))


class validation_enabled(ContextDecorator):  # noqa: N801 - a context manager, called like a function
    """Switch checking on or off inside a ``with`` block."""

    __slots__ = ("_before", "_wanted")

    def __init__(self, is_validate: bool = True) -> None:
        self._wanted = bool(is_validate)
        self._before: tuple[bool, ...] = ()  # one object may be entered again inside itself

    def __enter__(self) -> None:
        self._before = (*self._before, _ENABLED.get())
        _ENABLED.set(self._wanted)

    def __exit__(self, *_: object) -> None:
        *before, last = self._before
        _ENABLED.set(last)
        self._before = tuple(before)

    def _recreate_cm(self) -> validation_enabled:
        return validation_enabled(self._wanted)  # a function that is decorated may be running more than once
