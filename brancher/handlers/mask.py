"""``mask``: leave entries out of log-densities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from brancher.errors import HandlerTypeError
from brancher.handlers import stack
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger


class mask(Messenger):  # noqa: N801
    """Count log-densities only where a mask is true.

    Values that are masked out, NaN included, reach neither the density nor a gradient.

    Args:
        fn: the function to run.
        mask: a bool, or a boolean tensor that broadcasts with the batch shape of every site.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(float("nan")))
        >>> float(trace(mask(model, mask=False)).get_trace().log_prob_sum())
        0.0
    """

    def __init__(self, fn: Callable[..., Any] | None = None, mask: bool | torch.Tensor = True) -> None:
        if fn is not None and not callable(fn):
            fn, mask = None, fn
        super().__init__(fn)
        is_boolean = isinstance(mask, bool) or (isinstance(mask, torch.Tensor) and mask.dtype == torch.bool)
        if not is_boolean:
            kind = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
            raise HandlerTypeError(f"mask: expected a bool or a boolean tensor, got {kind}; write mask > 0")
        self.mask = mask

    def process_message(self, message: Message) -> None:
        """Combine the mask with the site's."""
        if message.type in ("sample", "factor"):
            message.mask = self.mask if message.mask is None else message.mask & self.mask


def get_mask() -> bool | torch.Tensor | None:
    """The mask that the handlers in force put on a site here; None where there is none.

    A model can spare itself work that a mask of False would throw away.

    Example:
        >>> with mask(mask=False):
        ...     get_mask()
        False
    """
    found: bool | torch.Tensor | None = None
    for handler in stack.current():
        if isinstance(handler, mask):
            found = handler.mask if found is None else handler.mask & found
    return found
