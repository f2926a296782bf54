"""Posteriors of single enumerated sites."""

from __future__ import annotations

from typing import Any

import torch

from brancher.distributions import Bernoulli, Categorical, OneHotCategorical
from brancher.handlers import Frame, Message, Trace
from brancher.infer.enumeration.elimination import Term, sum_out
from brancher.infer.enumeration.factors import Factor
from brancher.infer.enumeration.sites import homes_of, terms_of


def marginals(record: Trace) -> dict[str, Any]:
    """The posterior of each enumerated site of a trace, in every row of its plates.

    A posterior probability is the derivative of the log-evidence by the logarithm of what it is
    multiplied with (Darwiche 2003, "A Differential Approach to Inference in Bayesian Networks").

    Returns:
        Distributions by site: Bernoulli or OneHotCategorical where the prior is one, else a Categorical
        over the positions in the support.
    """
    homes, terms = homes_of(record), terms_of(record.scored())
    probes = {name: _probe(name, terms[name].factor) for name in homes}
    everything = [*terms.values(), *(Term(probe, homes[name]) for name, probe in probes.items())]
    with torch.enable_grad():
        left = sum_out(everything, homes, frozenset(homes))
        evidence = torch.stack([term.factor.tensor.sum() for term in left]).sum()
        grads = torch.autograd.grad(evidence, [probe.tensor for probe in probes.values()])
    return {
        name: _law(record.nodes[name], _by_dim(Factor(grad, probe.labels), name))
        for (name, probe), grad in zip(probes.items(), grads, strict=True)
    }


def _probe(name: str, factor: Factor) -> Factor:
    """A factor of one for each value of a variable in each row."""
    labels = tuple(label for label in factor.labels if isinstance(label, Frame) or label == name)
    sizes = [factor.tensor.shape[factor.labels.index(label)] for label in labels]
    return Factor(torch.zeros(sizes, requires_grad=True, dtype=factor.tensor.dtype), labels)


def _by_dim(probs: Factor, name: str) -> torch.Tensor:
    """Probabilities with the plates at their dimensions and the values rightmost."""
    plates = {label.dim: label for label in probs.labels if isinstance(label, Frame)}
    rank = max([0, *(-dim for dim in plates if dim is not None)])
    return probs.aligned([*(plates.get(dim, f"no plate at {dim}") for dim in range(-rank, 0)), name])


def _law(site: Message, probs: torch.Tensor) -> Any:
    fn: Any = site.fn
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    if isinstance(fn, torch.distributions.Bernoulli):
        return Bernoulli(probs=probs[..., 1])
    if isinstance(fn, torch.distributions.OneHotCategorical):
        return OneHotCategorical(probs=probs)
    return Categorical(probs=probs)
