"""``scale``: multiply log-densities by a factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from brancher.distributions.validation import is_validating
from brancher.errors import HandlerError
from brancher.handlers.density import is_one
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger


class scale(Messenger):  # noqa: N801
    """Multiply the log-density of every site inside by a positive factor.

    Args:
        fn: the function to run.
        scale: a number or tensor (broadcast over B), > 0.

    Raises:
        HandlerError: the factor is not positive.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
        >>> trace(scale(model, scale=2.0)).get_trace().log_prob_sum()
        tensor(-1.8379)
    """

    def __init__(self, fn: Callable[..., Any] | None = None, scale: float | torch.Tensor = 1.0) -> None:
        if fn is not None and not callable(fn):
            fn, scale = None, fn
        super().__init__(fn)
        is_bad = not bool((scale > 0).all()) if isinstance(scale, torch.Tensor) and is_validating() else False
        if is_bad or (not isinstance(scale, torch.Tensor) and not scale > 0):
            raise HandlerError(f"scale: expected a factor > 0, got {scale}; use mask to leave sites out")
        self.scale = scale

    def process_message(self, message: Message) -> None:
        """Multiply the factor onto the site's."""
        if message.type in ("sample", "factor"):
            message.scale = self.scale if is_one(message.scale) else message.scale * self.scale
