"""``lift``: turn parameters into random variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from brancher.errors import HandlerTypeError
from brancher.handlers.message import Message
from brancher.handlers.naming import NamedMessenger


class lift(NamedMessenger):  # noqa: N801
    """Sample parameters from a prior instead of reading them from the store.

    Args:
        fn: the function to run.
        prior: a distribution for every parameter, a mapping from parameter name to distribution, or
            a function from a parameter's name to its distribution or None.

    Example:
        >>> model = lambda: param("a", torch.tensor(0.0))
        >>> trace(lift(model, prior={"a": dist.Normal(0.0, 1.0)})).get_trace().stochastic_nodes
        ['a']
    """

    def __init__(self, fn: Callable[..., Any] | None = None, prior: Any = None) -> None:
        if not (isinstance(prior, Mapping) or callable(prior) or hasattr(prior, "log_prob")):
            raise HandlerTypeError(
                "lift: expected prior as a distribution, a mapping from parameter name to distribution or "
                f"a function, got {type(prior).__name__}; write lift(fn, prior={{'w': dist.Normal(0.0, "
                "1.0)})"
            )
        self.prior = prior
        super().__init__(fn, prior if isinstance(prior, Mapping) else ())

    def _prior_of(self, name: str) -> Any:
        if isinstance(self.prior, Mapping):
            return self.prior.get(name)
        return self.prior if hasattr(self.prior, "log_prob") else self.prior(name)

    def act(self, message: Message) -> None:
        """Make the parameter a sample site."""
        if message.type != "param":
            return
        prior = self._prior_of(message.name)
        if prior is not None:
            message.type, message.fn, message.args, message.kwargs = "sample", prior, (), {}
            message.is_observed = False
            message.value = None
