"""One switch for argument checking, task-local and independent of ``python -O``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def validation_enabled(is_validate: bool = True) -> Iterator[None]:
    """Switch checking on or off inside a ``with`` block."""
    before = _ENABLED.get()
    try:
        _ENABLED.set(bool(is_validate))
        yield
    finally:
        _ENABLED.set(before)
