"""What the handlers that act by name share: telling about names that match nothing."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from brancher.distributions.validation import is_validating
from brancher.errors import BrancherWarning, nearest
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger

if TYPE_CHECKING:
    from typing_extensions import Self


class NamedMessenger(Messenger):
    """A handler given names; warns when one of them met no site by the end of its block.

    Args:
        fn: the function to run inside.
        names: the names that are expected to occur.
    """

    def __init__(self, fn: Callable[..., Any] | None, names: Iterable[str] = ()) -> None:
        super().__init__(fn)
        self.names = tuple(names)
        self._met: set[str] | None = None

    def fresh(self) -> Self:
        """Keep a list of the names met, while checking is on."""
        if not self.names or not is_validating():
            return self
        entry = copy.copy(self)
        entry.origin = self
        entry._met = set()
        return entry

    def process_message(self, message: Message) -> None:
        """Note the name, then let the handler act."""
        if self._met is not None and message.type in ("sample", "param", "deterministic", "factor", "plate"):
            self._met.add(message.name)
        self.act(message)

    def act(self, message: Message) -> None:
        """What the handler does with a message."""

    def leave(self, completed: bool) -> None:
        """Warn about names that met nothing."""
        if self._met is None or not completed:
            return
        for name in self.names:
            if name not in self._met:
                warnings.warn(
                    f"{type(self).__name__} '{name}': expected a site of this name, got "
                    f"{sorted(self._met)}{nearest(name, self._met) or '; check the spelling'}",
                    BrancherWarning,
                    stacklevel=4,
                )
