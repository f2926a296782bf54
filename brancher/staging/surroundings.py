"""What functions read from around them: closures, globals, attributes; and whether any of it was rebound.

A recorded graph holds the Python values that the function read when it was recorded. Here those are found
that can be found from outside, so that a change leads to another graph instead of old numbers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from brancher.staging import backend
from brancher.staging.places import Found, Place, are_same
from brancher.staging.reasons import StagingError

#: From so many states on, compiling anew for each costs more than it gives.
MOST_STATES = 5


class Surroundings:
    """Watches what functions read from outside their arguments, as far as that can be told.

    Watched: closure variables and globals that the functions name; attributes of their objects, classes
    and modules; entries of small lists and dicts among those; the same of functions that they name, if those
    are not a library's. Numbers, strings and the like go by value, everything else by which object it is: a
    tensor that is changed in place is the same. What the functions themselves change is not watched.

    Args:
        roots: the functions, bare, bound, partial or wrapped, or modules and other callable objects.
        settings: objects of libraries whose plain attributes are watched too.

    Example:
        >>> from functools import partial
        >>> from types import SimpleNamespace
        >>> options = SimpleNamespace(scale=1.0)
        >>> around = Surroundings([partial(print, options)])
        >>> before, options.scale = around.state(), 2.0
        >>> around.state() == before, around.changed
        (False, 'SimpleNamespace.scale')
    """

    def __init__(self, roots: Iterable[Any], settings: Iterable[Any] = ()) -> None:
        self._roots, self._settings = tuple(roots), tuple(settings)
        self.is_empty = not self._roots
        self._ours: dict[Hashable, Place] = {}
        self._states: dict[Hashable, int] = {}
        self._state = -1
        self._look_around()
        #: Name of what was rebound last, "" before.
        self.changed = ""

    def state(self) -> int:
        """Tell what is there now: the same number for the same values, whatever was there between."""
        if self._state >= 0 and self._is_as_seen():
            return self._state
        changed = self._found.changed()
        self._look_around()
        state = self._states.setdefault(self._found.key(), len(self._states))
        if changed and state != self._state:
            self.changed = changed[0].label
        self._state = state
        return state

    def settle(self) -> None:
        """Call after the functions have run: what has changed since `state` is their own doing."""
        self._ours.update({place.token: place for place in self._found.changed()})
        self._look_around()
        self._states[self._found.key()] = self._state

    @contextmanager
    def left_alone(self, name: str) -> Iterator[None]:
        """Put back, where this is part of a recording, numbers and what holds its stand-ins.

        Raises:
            StagingError: they have read a tensor and then put another one in its place, where a graph
                would read the first one for ever; or they change a number at each run.
        """
        recorder = backend.current_recorder()
        places = [] if recorder is None else [*self._ours.values(), *self._found.places]
        kept = [(place, place.entries()) for place in places]
        carried = counted = ""
        try:
            yield
        finally:
            for place, before in kept:
                now = place.entries()
                if recorder is None or are_same(now, before):
                    continue
                if any(map(_is_stand_in, now)):
                    place.put_back(before)
                    carried = place.carried(before, now, recorder.has_read) or carried
                elif any(map(_is_counted, before, now)):
                    place.put_back(before)
                    counted = place.label
        if carried:
            raise StagingError(
                f"staged function '{name}': expected tensors that are changed in place, got '{carried}', "
                "which is read and then replaced; write into it with .copy_(), or pass it as an argument.",
                reason="trace",
            )

        if counted:
            raise StagingError(
                f"staged function '{name}': expected numbers that stay as they are, got '{counted}', which "
                "every run changes while a graph would keep it; count outside, or in a tensor by .add_().",
                reason="trace",
            )

    @property
    def is_restless(self) -> bool:
        """Whether what was there at `state` is one change too many."""
        return self._state >= MOST_STATES

    def _is_as_seen(self) -> bool:
        return are_same(self._found.read(), self._seen)

    def _look_around(self) -> None:
        found = Found(self._ours, self._roots, self._settings)
        found.mark()
        self._found, self._seen = found, found.read()


def _is_stand_in(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and backend.is_stand_in(value)


def _is_counted(before: Any, now: Any) -> bool:
    return type(before) in (int, float) and type(now) in (int, float) and before != now
