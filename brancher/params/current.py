"""Which store is the current one of this thread or task."""

from __future__ import annotations

from typing import Any

from brancher.params.scope import OPEN_STORES
from brancher.params.store import ParamStore

_DEFAULT = ParamStore()


def current_store() -> ParamStore:
    """Return the store of the innermost open ``with`` block, else the default one."""
    stores: tuple[ParamStore, ...] = OPEN_STORES.get()
    return stores[-1] if stores else _DEFAULT


class using:  # noqa: N801 - a context manager, called like a function
    """Make a store the current one inside the block; None leaves the one that is.

    Restores what was current as a whole, so that an interrupt at any moment leaves nothing open.
    """

    __slots__ = ("_before", "_store")

    def __init__(self, store: ParamStore | None) -> None:
        self._store = store
        self._before: tuple[Any, ...] = OPEN_STORES.get()

    def __enter__(self) -> ParamStore:
        if self._store is None:
            return current_store()
        OPEN_STORES.set((*self._before, self._store))
        return self._store

    def __exit__(self, *_: object) -> None:
        OPEN_STORES.set(self._before)


def get_param_store() -> ParamStore:
    """Return the current store."""
    return current_store()


def clear_param_store() -> None:
    """Forget every parameter of the current store."""
    current_store().clear()
