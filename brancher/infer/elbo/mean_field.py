"""``TraceMeanField_ELBO``: the evidence lower bound with analytic KL divergences."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from brancher.distributions import kl_divergence
from brancher.distributions.validation import is_validating
from brancher.errors import BrancherWarning, DistributionError
from brancher.handlers import Message, Trace
from brancher.handlers.density import is_one
from brancher.infer.elbo.elbo import Estimate
from brancher.infer.elbo.score_function import score_function_term
from brancher.infer.elbo.trace_elbo import Trace_ELBO, joint, needs_score_function, total


class TraceMeanField_ELBO(Trace_ELBO):  # noqa: N801
    """Estimate the negative ELBO with closed-form KL terms where there are any.

    ``E[log p(x | z)] - sum_i KL(q(z_i) || p(z_i | parents))`` (Kingma & Welling 2014,
    arXiv:1312.6114, eq. 10). A site's KL is taken in closed form when its pair of families has one,
    its guide draw is pathwise, model and guide scale and mask it alike, and the sites before it
    come in the same order in both; else from its draw, as in :class:`Trace_ELBO`.

    Args:
        num_particles: see :class:`Trace_ELBO`, as are the others.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> guide = lambda: sample("x", dist.Normal(1.0, 1.0))
        >>> from brancher.infer import TraceMeanField_ELBO
        >>> TraceMeanField_ELBO().loss(model, guide)
        0.5
    """

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> Estimate:
        """Add log-probabilities and KL terms of both traces."""
        ordered = in_same_order(model_trace, guide_trace)
        divergences: dict[str, torch.Tensor] = {}
        for name, guide_site in guide_trace.iter_stochastic_nodes():
            model_site = model_trace.nodes.get(name)
            if model_site is not None and name in ordered:
                divergence = closed_form(model_site, guide_site)
                if divergence is not None:
                    divergences[name] = divergence
        model_sites, guide_sites = list(model_trace.scored()), list(guide_trace.scored())
        log_p = joint([site for site in model_sites if site.name not in divergences])
        rest = [s for s in guide_sites if s.name not in divergences]
        pathwise = joint([site for site in rest if not needs_score_function(site)])
        surrogate = total(list(divergences.values())) + pathwise - log_p
        scored = [s for s in rest if needs_score_function(s)]
        if not scored:
            loss = surrogate / num_particles
            return Estimate(loss, loss)
        loss = (surrogate + joint(scored)).detach()
        for site in scored:
            surrogate = surrogate - score_function_term(site, model_sites, guide_sites, self.baselines)
        return Estimate(loss / num_particles, surrogate / num_particles)


def in_same_order(model_trace: Trace, guide_trace: Trace) -> set[str]:
    """The shared latent sites up to the first one whose order differs between model and guide."""
    guide_names = guide_trace.stochastic_nodes
    model_names = model_trace.stochastic_nodes
    in_model, in_guide = set(model_names), set(guide_names)
    pairs = zip(
        [n for n in model_names if n in in_guide], [n for n in guide_names if n in in_model], strict=True
    )
    same: set[str] = set()
    for theirs, ours in pairs:
        if theirs != ours:
            if is_validating():
                warnings.warn(
                    f"TraceMeanField_ELBO: expected the same order of sites in model and guide, got "
                    f"'{theirs}' where the guide has '{ours}'; from there on KL terms are estimated from "
                    "draws: sample in the model's order to have them in closed form",
                    BrancherWarning,
                    stacklevel=2,
                )
            break
        same.add(ours)
    return same


def closed_form(model_site: Message, guide_site: Message) -> torch.Tensor | None:
    """KL divergence of one site, masked, scaled and summed, shape ``()``; None without a closed form."""
    same = _alike(model_site.scale, guide_site.scale) and _alike(model_site.mask, guide_site.mask)
    if not same or model_site.is_observed or not guide_site.fn.has_rsample:
        return None
    try:
        divergence: torch.Tensor = kl_divergence(guide_site.fn, model_site.fn)
    except (NotImplementedError, DistributionError):  # of a bad value the draw's own density tells the site
        return None
    mask, scale = model_site.mask, model_site.scale
    if mask is not None:
        divergence = torch.where(torch.as_tensor(mask, device=divergence.device), divergence, 0.0)
    return (divergence if is_one(scale) else divergence * scale).sum()


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return a is b
    return bool(a == b)
