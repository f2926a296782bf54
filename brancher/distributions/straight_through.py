"""Relaxed discrete laws whose draws are discrete and whose gradients are those of the relaxation."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.bernoulli import Bernoulli
from brancher.distributions.categorical import OneHotCategorical
from brancher.distributions.elementwise import open_uniform
from brancher.distributions.parameters import Number, to_tensors
from brancher.distributions.shapes import Size


class RelaxedBernoulliStraightThrough(Bernoulli):
    """A draw of exactly 0 or 1 that passes on the gradient of a relaxed draw.

    The value is hard, the derivative that of a logistic-sigmoid relaxation (Jang, Gu & Poole 2017,
    arXiv:1611.01144, section 2.2; Maddison, Mnih & Teh 2017). ``log_prob`` is the mass of the hard
    value, so an ELBO over these draws is the exact one and only its gradient is approximate.

    Args:
        temperature: of the relaxation; > 0. Lower is less biased and noisier.
        probs: probability of 1; or
        logits: its log-odds.

    Example:
        >>> d = RelaxedBernoulliStraightThrough(torch.tensor(0.5), probs=torch.tensor(1.0))
        >>> d.rsample()
        tensor(1.)
    """

    has_rsample = True
    temperature: torch.Tensor
    arg_constraints = {"temperature": constraints.positive, **Bernoulli.arg_constraints}

    def __init__(
        self,
        temperature: Number,
        probs: Number | None = None,
        logits: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        (self.temperature,) = self._take(probs, logits, temperature=temperature)
        Distribution.__init__(self, self._param.shape, torch.Size(), validate_args)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw 0 or 1 with the gradient of the relaxed draw."""
        shape = self._extended_shape(torch.Size(sample_shape))
        u = open_uniform(shape, self._param)
        noisy = self.logits + u.log() - (-u).log1p()
        return _hard((noisy > 0).to(u.dtype), (noisy / self.temperature).sigmoid())


class RelaxedOneHotCategoricalStraightThrough(OneHotCategorical):
    """A unit vector that passes on the gradient of a relaxed draw.

    See ``RelaxedBernoulliStraightThrough``; the relaxation is Gumbel-softmax.

    Args:
        temperature: of the relaxation, a number or a tensor of shape (); > 0.
        probs: weights of the categories, shape B + (K,); >= 0; or
        logits: log-weights.

    Example:
        >>> d = RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.5), torch.tensor([0.0, 1.0]))
        >>> d.rsample()
        tensor([0., 1.])
    """

    has_rsample = True
    temperature: torch.Tensor
    arg_constraints = {"temperature": constraints.positive, **OneHotCategorical.arg_constraints}

    def __init__(
        self,
        temperature: Number,
        probs: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        (self.temperature, _) = to_tensors(self, temperature=temperature, param=_first(probs, logits))
        super().__init__(probs=probs, logits=logits, validate_args=validate_args)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw a unit vector with the gradient of the relaxed draw."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noisy = self.logits - (-open_uniform(shape, self.logits).log()).log()
        hard = torch.zeros_like(noisy).scatter(-1, noisy.argmax(-1, keepdim=True), 1.0)
        return _hard(hard, (noisy / self.temperature.unsqueeze(-1)).softmax(-1))


def _first(probs: Any, logits: Any) -> Any:
    return 0.0 if probs is None and logits is None else (logits if probs is None else probs)


def _hard(hard: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    # The difference is exactly zero; only its gradient remains.
    return hard + (soft - soft.detach())
