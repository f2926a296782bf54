"""Averages over the enumerated sites of a guide."""

from __future__ import annotations

import torch

from brancher.handlers import Frame, Message
from brancher.infer.elbo.trace_elbo import needs_score_function
from brancher.infer.enumeration.elimination import Plates, Term
from brancher.infer.enumeration.factors import Factor, contract
from brancher.infer.enumeration.sites import is_enumerated, probability_of, term_of


def expected(term: Term, guide_sites: list[Message], count: int) -> torch.Tensor:
    """A scaled term averaged over the guide's enumerated variables, shape ``()``.

    Args:
        term: what to average.
        guide_sites: the sites of the guide.
        count: the term may depend on so many of them.
    """
    cost = term.scaled()
    weights = _weights(cost.variables, term.plates, guide_sites, count)
    if not weights:
        return cost.tensor.sum()
    unwanted = {v for weight in weights for v in weight.variables} - cost.variables
    weight = contract(weights, sorted(unwanted))
    labels = tuple(dict.fromkeys((*cost.labels, *weight.labels)))
    probability, value = torch.broadcast_tensors(weight.aligned(labels).exp(), cost.aligned(labels))
    # What has no probability counts for nothing, also where it is infinite.
    average: torch.Tensor = (probability * torch.where(probability == 0, 0.0, value)).sum()
    return average


def _weights(variables: set[str], plates: Plates, guide_sites: list[Message], count: int) -> list[Factor]:
    """Log-probabilities of variables and of all that they depend on; and of draws, for their gradients.

    A site whose values have a run each weighs everything in its runs, whether it depends on it or not.
    """
    found: list[Factor] = []
    wanted = set(variables)
    for number, site in reversed(list(enumerate(guide_sites))):
        if site.type != "sample" or site.is_observed:
            continue
        if is_enumerated(site):
            if site.name not in wanted:
                continue
            factor = probability_of(site).factor
        elif site.infer.get("enumerate") == "sequential":
            factor = term_of(site).factor
        elif number < count and needs_score_function(site):
            density = term_of(site).factor
            factor = Factor(density.tensor - density.tensor.detach(), density.labels)
        else:
            continue
        factor = factor.summed(
            [label for label in factor.labels if isinstance(label, Frame) and label not in plates]
        )
        wanted |= factor.variables
        found.append(factor)
    return found
