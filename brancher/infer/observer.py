"""Watch a step from outside: which parameters it read, which sites it visited."""

from __future__ import annotations

import torch

from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger


class Observer(Messenger):
    """Collect parameters and scored sites, in order of appearance.

    Attributes:
        params: unconstrained leaves by name.
        sites: the sample and factor sites.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.params: dict[str, torch.Tensor] = {}
        self.sites: list[Message] = []

    def postprocess_message(self, message: Message) -> None:
        """Note the parameter or site."""
        kind = message.type
        if kind == "param":
            leaf = message.unconstrained
            if leaf is not None and leaf.requires_grad:
                self.params[message.name] = leaf
        elif kind == "sample" or kind == "factor":
            self.sites.append(message)
