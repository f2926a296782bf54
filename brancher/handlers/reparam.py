"""``reparam``: write sites in another parametrisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from brancher.errors import HandlerTypeError
from brancher.handlers.message import Message
from brancher.handlers.naming import NamedMessenger


class reparam(NamedMessenger):  # noqa: N801
    """Rewrite sample sites by strategies such as ``infer.reparam.LocScaleReparam``.

    A strategy has ``apply(message)`` and returns a mapping with ``fn``, ``value`` and
    ``is_observed``; ``fn`` None makes the site deterministic.

    Args:
        fn: the model.
        config: strategies by site name, or a function from a site to a strategy or None.

    Raises:
        HandlerTypeError: ``config`` or a strategy is of another kind.
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        config: Mapping[str, Any] | Callable[[Message], Any] | None = None,
    ) -> None:
        if not (isinstance(config, Mapping) or callable(config)):
            raise HandlerTypeError(
                "reparam: expected config as a mapping from site name to strategy or a function, got "
                f"{type(config).__name__}; write reparam(fn, config={{'x': LocScaleReparam()}})"
            )
        self.config = config
        super().__init__(fn, config if isinstance(config, Mapping) else ())

    def act(self, message: Message) -> None:
        """Let the site's strategy rewrite it."""
        if message.type != "sample":
            return
        strategy = self.config.get(message.name) if isinstance(self.config, Mapping) else self.config(message)
        if strategy is None:
            return
        if not hasattr(strategy, "apply") or isinstance(strategy, type):
            raise HandlerTypeError(
                f"reparam: expected an instance of a strategy for site '{message.name}', got {strategy!r} of "
                f"type {type(strategy).__name__}; write config={{'{message.name}': LocScaleReparam()}}"
            )
        rewritten = strategy.apply(message)
        if rewritten["fn"] is None:
            message.type = "deterministic"
        message.fn = rewritten["fn"]
        message.value = rewritten["value"]
        message.is_observed = rewritten["is_observed"]
