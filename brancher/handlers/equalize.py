"""``equalize``: give several sites the value of the first of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from brancher.errors import HandlerTypeError
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger

if TYPE_CHECKING:
    from typing_extensions import Self


class equalize(Messenger):  # noqa: N801
    """Give all sites that a name or pattern matches the value of the first one.

    Sample sites after the first one become deterministic, so that the density has it once; or, with
    ``keep_dist``, observed at it.

    Args:
        fn: the function to run.
        sites: a regular expression, or names.
        type: "sample" or "param".
        keep_dist: whether sample sites keep their own distributions; then their density at the shared
            value counts, which in general does not normalise.

    Raises:
        HandlerTypeError: ``sites`` is no string or list of strings.

    Example:
        >>> def model():
        ...     return sample("a", dist.Normal(0.0, 1.0)), sample("b", dist.Normal(5.0, 1.0))
        >>> a, b = equalize(model, ["a", "b"])()
        >>> bool(a == b)
        True
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        sites: str | Sequence[str] = (),
        type: str = "sample",
        keep_dist: bool = False,
    ) -> None:
        super().__init__(fn)
        names = [sites] if isinstance(sites, str) else sites
        if not names or not all(isinstance(name, str) for name in names):
            raise HandlerTypeError(f"equalize: expected sites as a pattern or a list of names, got {sites!r}")
        if type not in ("sample", "param"):
            raise HandlerTypeError(f"equalize: expected type as 'sample' or 'param', got {type!r}")
        self.pattern = re.compile("|".join(f"(?:{name})" for name in names))
        self.type, self.keep_dist = type, keep_dist
        self._value: Any = None

    def fresh(self) -> Self:
        """Forget the value of an earlier run."""
        entry = copy.copy(self)
        entry.origin, entry._value = self, None
        return entry

    def _selects(self, message: Message) -> bool:
        return message.type == self.type and self.pattern.fullmatch(message.name) is not None

    def process_message(self, message: Message) -> None:
        """Answer with the first site's value."""
        if self._value is None or not self._selects(message) or message.is_observed:
            return
        message.value, message.done = self._value, True
        if self.type == "sample" and self.keep_dist:
            message.is_observed = True
        elif self.type == "sample":
            message.kwargs["event_dim"] = len(message.fn.event_shape)
            message.type, message.fn = "deterministic", None

    def postprocess_message(self, message: Message) -> None:
        """Keep the first site's value."""
        if self._value is None and self._selects(message):
            self._value = message.value
