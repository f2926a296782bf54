"""``infer_config``: set inference options of sites from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger


class infer_config(Messenger):  # noqa: N801
    """Update the ``infer`` options of sample and parameter sites.

    Args:
        fn: the function to run.
        config_fn: returns the options to set for a site.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> marked = infer_config(model, config_fn=lambda site: {"is_auxiliary": True})
        >>> trace(marked).get_trace().nodes["x"]["infer"]
        {'is_auxiliary': True}
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        config_fn: Callable[[Message], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        super().__init__(fn)
        self.config_fn = config_fn

    def process_message(self, message: Message) -> None:
        """Update the site's options."""
        if message.type in ("sample", "param"):
            message.infer.update(self.config_fn(message))
