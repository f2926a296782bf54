"""First values of sites, under Pyro's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brancher.handlers import Message, Messenger

__all__ = ["InitMessenger"]


class InitMessenger(Messenger):
    """Gives latent sites the values of a strategy such as ``init_to_median``.

    Args:
        init_fn: from a site to its value.

    Example:
        >>> from brancher.infer.autoguide.initialization import InitMessenger, init_to_median
        >>> model = lambda: sample("x", dist.Normal(3.0, 1.0))
        >>> InitMessenger(init_to_median(num_samples=101))(model)().shape
        torch.Size([])
    """

    def __init__(self, init_fn: Callable[[Message], Any]) -> None:
        super().__init__(None)
        self.init_fn = init_fn

    def process_message(self, message: Message) -> None:
        """Set the value of a site that has none."""
        if message.type == "sample" and not message.is_observed and message.value is None:
            message.value = self.init_fn(message)
