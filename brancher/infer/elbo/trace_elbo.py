"""``Trace_ELBO``: the evidence lower bound from traces of model and guide."""

from __future__ import annotations

from typing import Any

import torch

from brancher.handlers import Message, Trace
from brancher.handlers.density import score
from brancher.infer.elbo.elbo import ELBO, Estimate, check_pyro_options
from brancher.infer.elbo.score_function import Baselines, score_function_term

#: Entries of a term that is copied to be added up with others.
SMALL = 4096


class Trace_ELBO(ELBO):  # noqa: N801
    """Estimate the negative ELBO from draws of the guide.

    Pathwise gradients where the guide's family allows them (Kingma & Welling 2014,
    arXiv:1312.6114, eq. 7), else score-function gradients (Ranganath et al. 2014,
    arXiv:1401.0118, eq. 3), Rao-Blackwellised over plates and with a decaying average of the
    learning signal as baseline (their section 3).

    Args:
        num_particles: draws averaged in one step, a batch dimension left of every plate; > 0.
        max_plate_nesting: batch dimensions that the model's plates use; found if not given.
        vectorize_particles: see :class:`ELBO`.
        baseline_decay: weight of the past in the baselines, in [0, 1); None for no baselines.

    Raises:
        GuideError: guide and model differ in their latent sites.
        SiteError: a site's shape does not fit its plates or its data.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> guide = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> from brancher.infer import Trace_ELBO
        >>> Trace_ELBO().loss(model, guide)
        0.0
    """

    def __init__(
        self,
        num_particles: int = 1,
        max_plate_nesting: int | float | None = None,
        vectorize_particles: bool | None = None,
        baseline_decay: float | None = 0.9,
        **pyro_options: Any,
    ) -> None:
        check_pyro_options(self, pyro_options)
        super().__init__(num_particles, max_plate_nesting, vectorize_particles)
        self.baselines = Baselines(baseline_decay)

    def state_dict(self) -> dict[str, Any]:
        """The baselines, by site."""
        return dict(self.baselines.averages)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the baselines back."""
        self.baselines.averages = dict(state)

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> Estimate:
        """Add the log-probabilities of both traces, once."""
        model_sites, guide_sites = list(model_trace.scored()), list(guide_trace.scored())
        log_p, log_q = joint(model_sites), joint(guide_sites)
        loss = log_q - log_p
        scored = [site for site in guide_sites if needs_score_function(site)]
        if not scored:
            loss = loss / num_particles if num_particles > 1 else loss
            return Estimate(loss, loss)
        pathwise = joint([site for site in guide_sites if not needs_score_function(site)]) - log_p
        surrogate = pathwise
        for site in scored:
            surrogate = surrogate - score_function_term(site, model_sites, guide_sites, self.baselines)
        return Estimate(loss / num_particles, surrogate / num_particles)


def needs_score_function(site: Message) -> bool:
    """Whether a guide site's draw carries no pathwise gradient."""
    if site.type == "factor":
        return site.infer.get("has_rsample") is False
    return not site.is_observed and not site.fn.has_rsample


def joint(sites: list[Message]) -> torch.Tensor:
    """Log-density of several sites in nats, masked and scaled, shape ``()``.

    Small terms of one shape are added up together: with many sites, the number of operations is the cost.
    """
    alike: dict[tuple[Any, ...], list[torch.Tensor]] = {}
    for site in sites:
        term = score(site)
        alike.setdefault((term.shape, term.dtype, term.device), []).append(term)
    sums = []
    for (shape, *_), terms in alike.items():
        if len(terms) > 2 and shape.numel() <= SMALL:
            sums.append(torch.stack(terms).sum())
        else:
            sums.extend([term.sum() if shape else term for term in terms])
    return total(sums)


def total(terms: list[torch.Tensor]) -> torch.Tensor:
    """Sum of scalars: one stacked sum instead of a chain of additions."""
    if not terms:
        return torch.zeros(())
    if len(terms) < 3:
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]
    return torch.stack(terms).sum()
