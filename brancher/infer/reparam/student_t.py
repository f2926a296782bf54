"""``StudentTReparam``: a Student law as a normal one of random scale."""

from __future__ import annotations

import torch

from brancher.distributions import Gamma, Normal
from brancher.handlers import Message
from brancher.infer.reparam.strategy import Reparam, Rewritten, unwrapped, wrong_family
from brancher.primitives import sample


class StudentTReparam(Reparam):
    """Sample ``{name}_gamma``, a precision, and the site from a normal law of that precision.

    Latent and observed sites alike; with it a heavy-tailed likelihood is conditionally normal.

    Example:
        >>> from brancher.infer.reparam import StudentTReparam
        >>> model = lambda: sample("x", dist.StudentT(3.0, 0.0, 1.0))
        >>> trace = handlers.trace(handlers.reparam(model, config={"x": StudentTReparam()})).get_trace()
        >>> trace.stochastic_nodes
        ['x_gamma', 'x']
    """

    def apply(self, message: Message) -> Rewritten:
        """Sample the precision."""
        fn, event_dim = unwrapped(message.fn)
        if not isinstance(fn, torch.distributions.StudentT):
            raise wrong_family(self, message, "StudentT")
        whole = fn.expand(message.fn.batch_shape + message.fn.event_shape)
        half = whole.df / 2
        precision = sample(
            f"{message.name}_gamma", Gamma(half, half).to_event(event_dim), infer=message.infer
        )
        law = Normal(whole.loc, whole.scale * precision.rsqrt()).to_event(event_dim)
        return {"fn": law, "value": message.value, "is_observed": message.is_observed}
