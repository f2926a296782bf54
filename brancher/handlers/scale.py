"""``scale``: multiply log-densities by a factor."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import torch

from brancher.distributions.validation import is_validating
from brancher.errors import HandlerError, HandlerTypeError
from brancher.handlers.density import is_one
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger


class scale(Messenger):  # noqa: N801
    """Multiply the log-density of every site inside by a positive factor.

    Args:
        fn: the function to run.
        scale: a number or tensor (broadcast over B), > 0.

    Raises:
        HandlerError: the factor is not positive and finite.
        HandlerTypeError: it is no number or tensor.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
        >>> trace(scale(model, scale=2.0)).get_trace().log_prob_sum()
        tensor(-1.8379)
    """

    def __init__(self, fn: Callable[..., Any] | None = None, scale: float | torch.Tensor = 1.0) -> None:
        if fn is not None and not callable(fn):
            fn, scale = None, fn
        super().__init__(fn)
        if isinstance(scale, bool) or not isinstance(scale, (torch.Tensor, Real)):
            raise HandlerTypeError(
                f"scale: expected a factor as a number or tensor, got {type(scale).__name__}; use mask to "
                "leave sites out"
            )
        if not isinstance(scale, torch.Tensor) or is_validating():
            _check_factor(torch.as_tensor(scale))
        self.scale = scale

    def process_message(self, message: Message) -> None:
        """Multiply the factor onto the site's."""
        if message.type in ("sample", "factor"):
            message.scale = self.scale if is_one(message.scale) else message.scale * self.scale


def _check_factor(scale: torch.Tensor) -> None:
    bad = ~((scale > 0) & torch.isfinite(scale))
    if bool(bad.any()):
        raise HandlerError(
            f"scale: expected a factor > 0 and finite, got {int(bad.sum())} offending, the first "
            f"{scale[bad][0].item()}; use mask to leave sites out"
        )
