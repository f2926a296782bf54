"""``substitute``: give parameters and latent sites fixed values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from brancher.errors import HandlerTypeError
from brancher.handlers.message import Message
from brancher.handlers.naming import NamedMessenger


class substitute(NamedMessenger):  # noqa: N801
    """Answer parameters, latent sample sites and plate subsamples with given values.

    Unlike :class:`condition`, a substituted sample site stays latent.

    Args:
        fn: the function to run.
        data: values by name (constrained ones for parameters).
        substitute_fn: returns a value for a message, or None; asked where ``data`` has none.

    Example:
        >>> model = lambda: param("scale", torch.tensor(1.0))
        >>> substitute(model, data={"scale": torch.tensor(3.0)})()
        tensor(3.)
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        data: Mapping[str, Any] | None = None,
        substitute_fn: Callable[[Message], Any] | None = None,
    ) -> None:
        if data is None and substitute_fn is None:
            raise HandlerTypeError(
                "substitute: expected data or substitute_fn, got neither; write substitute(fn, data={...})"
            )
        self.data = dict(data or {})
        self.substitute_fn = substitute_fn
        super().__init__(fn, self.data)

    def act(self, message: Message) -> None:
        """Set the value."""
        if message.type not in ("sample", "param", "plate") or message.is_observed:
            return
        value = self.data.get(message.name)
        if value is None and self.substitute_fn is not None:
            value = self.substitute_fn(message)
        if value is not None:
            message.value = value
