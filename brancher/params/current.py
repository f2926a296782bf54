"""Which store is the current one of this thread or task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from brancher.params.scope import OPEN_STORES
from brancher.params.store import ParamStore

_DEFAULT = ParamStore()


def current_store() -> ParamStore:
    """Return the store of the innermost open ``with`` block, else the default one."""
    stores: tuple[ParamStore, ...] = OPEN_STORES.get()
    return stores[-1] if stores else _DEFAULT


@contextmanager
def using(store: ParamStore | None) -> Iterator[ParamStore]:
    """Make a store the current one inside the block; None leaves the one that is.

    Restores what was current as a whole, so that an interrupt at any moment leaves nothing open.
    """
    before = OPEN_STORES.get()
    try:
        if store is not None:
            OPEN_STORES.set((*before, store))
        yield current_store()
    finally:
        OPEN_STORES.set(before)


def get_param_store() -> ParamStore:
    """Return the current store."""
    return current_store()


def clear_param_store() -> None:
    """Forget every parameter of the current store."""
    current_store().clear()
