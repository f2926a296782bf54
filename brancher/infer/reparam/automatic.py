"""Strategies that choose a strategy for every site of a model."""

from __future__ import annotations

from typing import Any

import torch

from brancher.distributions import MaskedDistribution, ProjectedNormal, constraints
from brancher.handlers import Message
from brancher.infer.reparam.angles import ProjectedNormalReparam
from brancher.infer.reparam.gumbel_softmax import GumbelSoftmaxReparam
from brancher.infer.reparam.loc_scale import LocScaleReparam
from brancher.infer.reparam.strategy import Reparam, Strategy, unwrapped
from brancher.infer.reparam.transform import TransformReparam

#: What the sites of strategies end in.
_DONE = ("_decentered", "_normal", "_uniform")


class MinimalReparam(Strategy):
    """Rewrite only the latent sites that most algorithms can not do without; see :class:`Strategy`.

    Today that is a :class:`ProjectedNormal` direction, which has no unbounded coordinates.

    Example:
        >>> from brancher.infer.reparam import MinimalReparam
        >>> model = lambda: sample("x", dist.ProjectedNormal(torch.zeros(3)))
        >>> handlers.trace(handlers.reparam(model, config=MinimalReparam())).get_trace().stochastic_nodes
        ['x_normal']
    """

    def configure(self, message: Message) -> Reparam | None:
        """The strategy for a site, or None."""
        if message.is_observed or isinstance(message.fn, MaskedDistribution):
            return None
        return self.choose(unwrapped(message.fn)[0])

    def choose(self, fn: Any) -> Reparam | None:
        """The strategy for a law, or None."""
        return ProjectedNormalReparam() if isinstance(fn, ProjectedNormal) else None


class AutoReparam(MinimalReparam):
    """Rewrite every latent site that has a better parametrisation; see :class:`Strategy`.

    Locations and scales are taken out of laws on the real line, transformed laws are sampled at their
    base, and relaxed one-hot vectors from uniform numbers.

    Args:
        centered: see :class:`LocScaleReparam`; None to learn it.

    Example:
        >>> from brancher.infer.reparam import AutoReparam
        >>> def model():
        ...     scale = sample("scale", dist.LogNormal(0.0, 1.0))
        ...     sample("x", dist.Normal(0.0, scale))
        >>> handlers.trace(handlers.reparam(model, config=AutoReparam())).get_trace().stochastic_nodes
        ['scale_base_decentered', 'x_decentered']
    """

    def __init__(self, *, centered: float | torch.Tensor | None = None) -> None:
        self.centered = centered

    def configure(self, message: Message) -> Reparam | None:
        """The strategy for a site, or None."""
        # What a strategy has sampled already is in its best form.
        return None if message.name.endswith(_DONE) else super().configure(message)

    def choose(self, fn: Any) -> Reparam | None:
        """The strategy for a law, or None."""
        if isinstance(fn, torch.distributions.RelaxedOneHotCategorical):
            return GumbelSoftmaxReparam()
        if isinstance(fn, torch.distributions.TransformedDistribution):
            return TransformReparam() if all(each.bijective for each in fn.transforms) else None
        if {"loc", "scale"} <= set(getattr(fn, "arg_constraints", {})) and fn.support is constraints.real:
            return LocScaleReparam(self.centered)
        return super().choose(fn)
