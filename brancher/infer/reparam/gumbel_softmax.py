"""``GumbelSoftmaxReparam``: a relaxed categorical draw from uniform numbers."""

from __future__ import annotations

import torch

from brancher.distributions import Uniform
from brancher.handlers import Message
from brancher.infer.reparam.strategy import Reparam, Rewritten, latent_only, unwrapped, wrong_family
from brancher.primitives import sample


class GumbelSoftmaxReparam(Reparam):
    """Sample ``{name}_uniform`` in the unit cube and compute the relaxed one-hot vector from it.

    Maddison, Mnih & Teh 2017, arXiv:1611.00712, section 3.1.

    Example:
        >>> from brancher.infer.reparam import GumbelSoftmaxReparam
        >>> model = lambda: sample("x", dist.RelaxedOneHotCategorical(torch.tensor(0.5), torch.ones(3) / 3))
        >>> draw = handlers.reparam(model, config={"x": GumbelSoftmaxReparam()})()
        >>> torch.isclose(draw.sum(), torch.tensor(1.0))
        tensor(True)
    """

    def apply(self, message: Message) -> Rewritten:
        """Sample the uniform numbers and compute the vector."""
        latent_only(self, message)
        fn, event_dim = unwrapped(message.fn)
        if not isinstance(fn, torch.distributions.RelaxedOneHotCategorical):
            raise wrong_family(self, message, "RelaxedOneHotCategorical")
        shape = message.fn.batch_shape + message.fn.event_shape
        logits = fn.logits.expand(shape)
        law = Uniform(torch.zeros_like(logits), torch.ones_like(logits)).to_event(event_dim + 1)
        uniform = sample(f"{message.name}_uniform", law, infer=message.infer)
        tiny = torch.finfo(uniform.dtype).tiny
        gumbel = -(-uniform.clamp(min=tiny).log()).clamp(min=tiny).log()
        temperature = fn.temperature.unsqueeze(-1) if fn.temperature.dim() else fn.temperature
        value = torch.softmax((logits + gumbel) / temperature, dim=-1)
        return {"fn": None, "value": value, "is_observed": False}
