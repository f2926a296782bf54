"""``escape``: leave a function at a site, by an exception that carries the site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brancher.errors import HandlerTypeError
from brancher.handlers import stack
from brancher.handlers.block import block
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger
from brancher.handlers.trace import trace


class NonlocalExit(Exception):
    """Raised by :class:`escape` where it leaves a function.

    Args:
        site: the site at which it happened.
    """

    def __init__(self, site: Message) -> None:
        super().__init__(f"left the function at site '{site.name}'")
        self.site = site

    def reset_stack(self) -> None:
        """Take the sites of the run that ended early out of the traces being recorded around it.

        For a function that catches the exception and runs again, as :class:`queue` does by itself.
        """
        for handler in reversed(stack.current()):
            if isinstance(handler, block) and handler._hides(self.site):
                break
            if isinstance(handler, trace):
                for name in [name for name in handler.trace.nodes if name != "_INPUT"]:
                    handler.trace.remove_node(name)


class escape(Messenger):  # noqa: N801
    """Leave the function at the first sample site that a condition selects.

    Args:
        fn: the function to run.
        escape_fn: tells for a site whether to leave there.

    Raises:
        HandlerTypeError: ``escape_fn`` is no function.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> try:
        ...     escape(model, escape_fn=lambda site: site.name == "x")()
        ... except handlers.NonlocalExit as exit:
        ...     print(exit.site.name)
        x
    """

    def __init__(
        self, fn: Callable[..., Any] | None = None, escape_fn: Callable[[Message], bool] | None = None
    ) -> None:
        super().__init__(fn)
        if not callable(escape_fn):
            raise HandlerTypeError(
                f"escape: expected escape_fn as a function of a site, got {type(escape_fn).__name__}; write "
                "escape(fn, escape_fn=lambda site: site['name'] == 'x')"
            )
        self.escape_fn = escape_fn

    def process_message(self, message: Message) -> None:
        """Leave where the condition holds."""
        if message.type == "sample" and self.escape_fn(message):
            raise NonlocalExit(message)
