"""``condition``: fix latent sites at data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from brancher.distributions.validation import is_validating
from brancher.errors import BrancherWarning, HandlerTypeError
from brancher.handlers.message import Message
from brancher.handlers.naming import NamedMessenger
from brancher.handlers.record import Trace
from brancher.handlers.values import as_value


class condition(NamedMessenger):  # noqa: N801
    """Observe sample sites at given values.

    Args:
        fn: the model.
        data: values by site name, or a :class:`Trace` whose latent sites give them.

    Example:
        >>> model = condition(lambda: sample("x", dist.Normal(0.0, 1.0)), data={"x": torch.tensor(2.0)})
        >>> model()
        tensor(2.)
    """

    def __init__(
        self, fn: Callable[..., Any] | None = None, data: Mapping[str, Any] | Trace | None = None
    ) -> None:
        self.data = by_name("condition", data)
        super().__init__(fn, self.data)

    def act(self, message: Message) -> None:
        """Set the value and mark the site as observed."""
        if message.type != "sample" or message.name not in self.data:
            return
        value = self.data[message.name]
        if value is None:
            return
        if message.is_observed and is_validating():
            warnings.warn(
                f"condition: expected site '{message.name}' to be latent, got an observed one; its "
                "observation is replaced: drop it from data, or wrap the model in uncondition first",
                BrancherWarning,
                stacklevel=2,
            )
        message.value = as_value(message.name, value, message.fn)
        message.is_observed = True


def by_name(handler: str, data: Mapping[str, Any] | Trace | None) -> dict[str, Any]:
    """Values by site name, from a mapping or from the latent sites of a trace."""
    if isinstance(data, Trace):
        return {site.name: site.value for site in data.sites("sample") if not site.is_observed}
    if not isinstance(data, Mapping):
        raise HandlerTypeError(
            f"{handler}: expected data as a mapping from site name to value or a Trace, got "
            f"{type(data).__name__}; write {handler}(fn, data={{'x': value}})"
        )
    return dict(data)
