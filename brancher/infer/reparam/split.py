"""``SplitReparam``: a vector as several sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from brancher.distributions import ImproperUniform, constraints
from brancher.errors import SiteError
from brancher.handlers import Message
from brancher.infer.reparam.strategy import Reparam, Rewritten, latent_only
from brancher.primitives import sample


class SplitReparam(Reparam):
    """Cut a site into ``{name}_split_0``, ``{name}_split_1``, ..., so that each can have its own guide.

    The parts have no density of their own; the site keeps its law and is scored where they are joined.
    Draws of the model alone are not possible, for want of a law of the parts.

    Args:
        sections: sizes of the parts, or one size for all.
        dim: the event dimension to cut, < 0.

    Raises:
        SiteError: the site has no such event dimension, or is bounded.

    Example:
        >>> from brancher.infer.autoguide import AutoNormal
        >>> from brancher.infer.reparam import SplitReparam
        >>> model = lambda: sample("x", dist.Normal(torch.zeros(5), 1.0).to_event(1))
        >>> sorted(AutoNormal(handlers.reparam(model, config={"x": SplitReparam([2, 3], -1)}))())
        ['x_split_0', 'x_split_1']
    """

    def __init__(self, sections: int | Sequence[int], dim: int) -> None:
        self.sections = sections if isinstance(sections, int) else list(sections)
        self.dim = dim

    def apply(self, message: Message) -> Rewritten:
        """Sample the parts and join them."""
        latent_only(self, message)
        fn: Any = message.fn
        if not -len(fn.event_shape) <= self.dim < 0:
            raise SiteError(
                f"site '{message.name}': expected an event dimension to split, got dim={self.dim} for event "
                f"shape {list(fn.event_shape)}; use to_event"
            )
        if not _is_real(fn.support):
            raise SiteError(
                f"site '{message.name}': expected a law on the real line for SplitReparam, got support "
                f"{fn.support}; take the site out of config"
            )
        shape = fn.batch_shape + fn.event_shape
        whole = torch.empty(shape, device="meta").split(self.sections, self.dim)
        parts = []
        for number, part in enumerate(whole):
            event_shape = part.shape[len(fn.batch_shape) :]
            law = ImproperUniform(constraints.real, fn.batch_shape, event_shape)
            parts.append(sample(f"{message.name}_split_{number}", law, infer=message.infer))
        return {"fn": fn, "value": torch.cat(parts, self.dim), "is_observed": True}


def _is_real(support: Any) -> bool:
    while isinstance(support, type(constraints.independent(constraints.real, 1))):
        support = support.base_constraint
    return support is constraints.real or isinstance(support, type(constraints.real))
