"""``TransformReparam``: the base of a transformed distribution in its place."""

from __future__ import annotations

import torch
from torch.distributions.transforms import ComposeTransform

from brancher.distributions import Independent
from brancher.handlers import Message
from brancher.infer.reparam.strategy import Reparam, Rewritten, latent_only, unwrapped, wrong_family
from brancher.primitives import sample


class TransformReparam(Reparam):
    """Sample the base distribution as ``{name}_base`` and transform the draw.

    Example:
        >>> from brancher.infer.reparam import TransformReparam
        >>> model = lambda: sample("x", dist.LogNormal(0.0, 1.0))
        >>> with handlers.reparam(config={"x": TransformReparam()}):
        ...     trace = handlers.trace(model).get_trace()
        >>> bool(trace["x"].value == trace["x_base"].value.exp())
        True
    """

    def apply(self, message: Message) -> Rewritten:
        """Sample the base and transform it."""
        latent_only(self, message)
        fn, event_dim = unwrapped(message.fn)
        if not isinstance(fn, torch.distributions.TransformedDistribution):
            raise wrong_family(self, message, "a transformed distribution")
        batch_shape = message.fn.batch_shape + message.fn.event_shape[:event_dim]
        whole = fn.expand(batch_shape)
        base, transform = whole.base_dist, ComposeTransform(list(whole.transforms))
        inner = len(base.batch_shape) - len(message.fn.batch_shape)
        base = Independent(base, inner) if inner > 0 else base
        drawn = sample(f"{message.name}_base", base, infer=message.infer)
        return {"fn": None, "value": transform(drawn), "is_observed": False}
