"""A count of changes to variables, so that a model knows when what it made of them is out of date."""

from __future__ import annotations

import itertools

_counter = itertools.count(1)
_latest = [0]


def note() -> None:
    """Say that a variable changed."""
    _latest[0] = next(_counter)


def latest() -> int:
    """The number of the last change."""
    return _latest[0]
