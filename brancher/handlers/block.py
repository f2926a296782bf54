"""``block``: hide sites from the handlers further out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from brancher.errors import HandlerError, HandlerTypeError
from brancher.handlers.message import Message
from brancher.handlers.naming import NamedMessenger


class block(NamedMessenger):  # noqa: N801
    """Hide sites from outer handlers: all of them, or those that the arguments select.

    Args:
        fn: the function to run.
        hide_fn: tells for a site whether it is hidden; decides alone, whatever names and types are given.
        expose_fn: tells for a site whether it is seen; decides alone as well.
        hide: names to hide; everything else is seen.
        expose: names to show; everything else is hidden.
        hide_types: site types to hide: "sample" (latent ones), "observe", "param", "deterministic",
            "factor", "plate".
        expose_types: site types to show.
        hide_all: hide everything, the default when nothing else is given.
        expose_all: show everything but what ``hide`` and ``hide_types`` name.

    Raises:
        HandlerError: ways of selecting are given that contradict each other.
        HandlerTypeError: a list of names is a str.

    Example:
        >>> hidden = block(lambda: sample("x", dist.Normal(0.0, 1.0)), hide=["x"])
        >>> trace(hidden).get_trace().stochastic_nodes
        []
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        hide_fn: Callable[[Message], bool] | None = None,
        expose_fn: Callable[[Message], bool] | None = None,
        hide_all: bool = True,
        expose_all: bool = False,
        hide: Iterable[str] | None = None,
        expose: Iterable[str] | None = None,
        hide_types: Iterable[str] | None = None,
        expose_types: Iterable[str] | None = None,
    ) -> None:
        if hide_fn is not None or expose_fn is not None:
            hide = hide_types = expose = expose_types = None  # a function decides alone
        hiding = hide is not None or hide_types is not None or hide_fn is not None
        showing = expose is not None or expose_types is not None or expose_fn is not None
        if hiding and showing:
            raise HandlerError(
                "block: expected either hide, hide_types, hide_fn or expose, expose_types, expose_fn, "
                "got both; name one side, the other follows"
            )
        for name, given in _lists(hide, expose, hide_types, expose_types):
            if isinstance(given, str):
                raise HandlerTypeError(
                    f"block: expected {name} as a list of names, got the str {given!r}; "
                    f"write {name}=[{given!r}]"
                )
        hide, expose = tuple(hide or ()), tuple(expose or ())
        super().__init__(fn, (*hide, *expose))
        self._hides = hide_fn or _selector(hide, hide_types)
        if showing:
            shows = expose_fn or _selector(expose, expose_types)
            self._hides = lambda message: not shows(message)
        elif not hiding:
            everything = hide_all and not expose_all
            self._hides = lambda message: everything

    def act(self, message: Message) -> None:
        """Stop the message where the site is hidden."""
        if self._hides(message):
            message.stop = True


def _lists(hide: Any, expose: Any, hide_types: Any, expose_types: Any) -> Iterable[tuple[str, Any]]:
    return {"hide": hide, "expose": expose, "hide_types": hide_types, "expose_types": expose_types}.items()


def _selector(names: Iterable[str], types: Iterable[str] | None) -> Callable[[Message], bool]:
    chosen, kinds = frozenset(names), frozenset(types or ())
    return lambda message: message.name in chosen or _kind(message) in kinds


def _kind(message: Message) -> str:
    return "observe" if message.type == "sample" and message.is_observed else message.type
