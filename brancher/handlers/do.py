"""``do``: intervene on sites."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from brancher.errors import BrancherWarning
from brancher.handlers import stack
from brancher.handlers.condition import by_name
from brancher.handlers.message import Message
from brancher.handlers.naming import NamedMessenger
from brancher.handlers.values import as_value


class do(NamedMessenger):  # noqa: N801
    """Set sites by intervention: what follows sees the new value, the site itself stays a draw.

    Unlike :class:`condition`, the intervened value says nothing about the site's parents
    (Pearl 2009, *Causality*, section 3.4). The site keeps its own draw and density under its name.

    Args:
        fn: the model.
        data: intervened values by site name.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> do(model, data={"x": torch.tensor(9.0)})()
        tensor(9.)
    """

    def __init__(self, fn: Callable[..., Any] | None = None, data: Mapping[str, Any] | None = None) -> None:
        self.data = by_name("do", data)
        super().__init__(fn, self.data)

    def act(self, message: Message) -> None:
        """Send the untouched site out under its own name, then answer with the intervention."""
        name = message.name
        if message.type != "sample" or name not in self.data or message.intervener is self.token:
            return
        if message.intervener is not None:
            warnings.warn(
                f"do: expected one intervention on site '{name}', got several; the outermost has no effect",
                BrancherWarning,
                stacklevel=2,
            )
        message.intervener = self.token
        original = message.copy()
        stack.apply(original)
        message.name = f"{name}__CF"
        message.value = as_value(name, self.data[name], message.fn)
        message.is_observed = True
        message.stop = True

    @property
    def token(self) -> object:
        """What marks a site as handled by this intervention, however often it was entered."""
        return self.origin or self
