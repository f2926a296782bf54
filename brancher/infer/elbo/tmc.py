"""``TraceTMC_ELBO``: a bound on the evidence from every combination of a few draws of each site."""

from __future__ import annotations

import math
from typing import Any

import torch

from brancher.errors import UnsupportedError
from brancher.handlers import Message, Trace
from brancher.infer.elbo.elbo import Estimate
from brancher.infer.elbo.enum import TraceEnum_ELBO
from brancher.infer.elbo.trace_elbo import needs_score_function
from brancher.infer.enumeration.elimination import Term, sum_out
from brancher.infer.enumeration.factors import Factor
from brancher.infer.enumeration.sites import homes_of, mask_of, named, own_scale, term_of, terms_of


class TraceTMC_ELBO(TraceEnum_ELBO):  # noqa: N801
    """Estimate minus the log-evidence by tensor Monte Carlo.

    Every site marked ``infer={"enumerate": "parallel", "num_samples": K}`` has K draws, from the guide or,
    where that lacks the site, from the model; ``config_enumerate(fn, num_samples=K)`` marks all. The estimate
    averages the importance weights of all ``K^n`` combinations by variable elimination (Aitchison 2019,
    arXiv:1806.08593, eq. 8), so that its variance falls much faster than that of K joint draws. It is
    unbiased on the scale of the evidence. Sites marked without ``num_samples`` are summed out exactly, others
    have one draw. Gradients are pathwise, or score-function ones without a baseline.

    Args:
        num_particles: runs averaged in one step, > 0.
        max_plate_nesting: see :class:`TraceEnum_ELBO`.
        vectorize_particles: see :class:`TraceEnum_ELBO`.

    Raises:
        UnsupportedError: a site is marked to be run value by value.

    Example:
        >>> from brancher.infer import TraceTMC_ELBO, config_enumerate
        >>> def model():
        ...     z = sample("z", dist.Normal(0.0, 1.0))
        ...     sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))
        >>> loss = TraceTMC_ELBO().loss(config_enumerate(model, num_samples=1000), lambda: None)
        >>> exact = -dist.Normal(0.0, 2.0**0.5).log_prob(torch.tensor(1.0))
        >>> bool((loss - exact).abs() < 0.2)
        True
    """

    allow_draws = True

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> Estimate:
        """Sum over all combinations of draws, weighted by what each was drawn with."""
        homes = homes_of(model_trace, guide_trace)
        terms = list(terms_of(model_trace.scored()).values())
        scores: Any = 0.0
        for site in _drawn(model_trace, guide_trace):
            terms.append(_drawn_with(site))
            if needs_score_function(site):
                scores = scores + terms[-1].factor.tensor.sum()
        total: Any = 0.0
        for left in sum_out(terms, homes, frozenset(homes)):
            total = total + left.scaled().tensor.sum()
        loss = -torch.as_tensor(total) / num_particles
        # Minus the density that draws were made with is in the terms: its gradient, times the loss.
        return Estimate(loss, loss - loss.detach() * scores * num_particles)


def _drawn(model_trace: Trace, guide_trace: Trace) -> list[Message]:
    """The latent sites that were drawn, in the program that drew them; others have all their values."""
    sites = [site for site in guide_trace.sites("sample") if not site.is_observed]
    known = {site.name for site in sites}
    sites += [site for site in model_trace.sites("sample") if not site.is_observed and site.name not in known]
    for site in sites:
        if site.infer.get("enumerate") == "sequential":
            raise UnsupportedError(
                f"TraceTMC_ELBO: expected site '{site.name}' drawn or enumerated in parallel, got "
                "'sequential'; use TraceEnum_ELBO"
            )
    return [site for site in sites if "num_samples" in site.infer or not site.infer.get("enumerate")]


def _drawn_with(site: Message) -> Term:
    """Minus the log-density that a site's draws were made with, and their share of one."""
    if "log_proposal" not in site.infer:
        term = term_of(site)
        return term._replace(factor=Factor(-term.factor.tensor, term.factor.labels))
    density = -site.infer["log_proposal"] - math.log(site.infer["num_samples"])
    if (mask := mask_of(site)) is not None:
        density = torch.where(mask, density, 0.0)
    return Term(named(site, density), frozenset(site.frames), own_scale(site))
