"""``RenyiELBO``: tighter and looser bounds on the evidence, of which importance weighting is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from brancher.errors import InferenceError
from brancher.handlers import Message, Trace
from brancher.handlers.density import score
from brancher.infer.elbo.elbo import ELBO, Estimate, check_pyro_options
from brancher.infer.elbo.trace_elbo import needs_score_function
from brancher.infer.particles import PARTICLES


class RenyiELBO(ELBO):
    """Estimate minus Rényi's variational bound on the log-evidence.

    ``log(mean_k w_k^(1 - alpha)) / (1 - alpha)`` with ``w_k = p(x, z_k) / q(z_k)`` (Li & Turner 2016,
    arXiv:1602.02311, eq. 6 and 14). ``alpha = 0`` is the importance-weighted bound (Burda et al. 2015,
    arXiv:1509.00519, eq. 8); towards 1 it becomes :class:`Trace_ELBO`. Pathwise gradients; score-function
    ones, without a baseline, for sites whose draws carry none.

    Args:
        alpha: order of the divergence, not 1.
        num_particles: how many weights are averaged, > 1.
        max_plate_nesting: see :class:`Trace_ELBO`.
        vectorize_particles: see :class:`Trace_ELBO`.

    Raises:
        InferenceError: ``alpha`` is 1 or no finite number, or there is only one particle.

    Example:
        >>> from brancher.infer import RenyiELBO
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> guide = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> RenyiELBO(alpha=0.5, num_particles=3).loss(model, guide)
        0.0
    """

    def __init__(
        self,
        alpha: float = 0.0,
        num_particles: int = 2,
        max_plate_nesting: int | float | None = None,
        vectorize_particles: bool | None = None,
        **pyro_options: Any,
    ) -> None:
        check_pyro_options(self, pyro_options)
        if not math.isfinite(alpha) or alpha == 1:
            raise InferenceError(
                f"RenyiELBO: expected alpha as a finite number other than 1, got {alpha}; use Trace_ELBO for "
                "alpha = 1"
            )
        if num_particles == 1:
            raise InferenceError(
                "RenyiELBO: expected num_particles > 1, got 1; use Trace_ELBO, whose bound is the same then"
            )
        super().__init__(num_particles, max_plate_nesting, vectorize_particles)
        self.alpha = float(alpha)

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> _Run:
        """Log-weights of one run."""
        guide_sites = list(guide_trace.scored())
        log_weight = per_particle(model_trace.scored(), num_particles)
        log_weight = log_weight - per_particle(guide_sites, num_particles)
        scored = [site for site in guide_sites if needs_score_function(site)]
        return _Run(log_weight, per_particle(scored, num_particles))

    def estimates(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Iterator[Estimate]:
        """Join the particles of all runs into the one estimate of the bound."""
        runs = list(self.runs(model, guide, args, kwargs))
        log_weights = torch.cat([run.log_weight for run in runs])
        log_q = torch.cat([run.log_q for run in runs])
        order = 1.0 - self.alpha
        loss = (math.log(self.num_particles) - (order * log_weights).logsumexp(0)) / order
        yield Estimate(loss, loss + loss.detach() * log_q.sum() if log_q.requires_grad else loss)


class _Run(NamedTuple):
    """One run; both of shape (particles of the run,).

    Attributes:
        log_weight: of the particles.
        log_q: score-function log-density of their draws.
    """

    log_weight: torch.Tensor
    log_q: torch.Tensor


def per_particle(sites: Any, num_particles: int) -> torch.Tensor:
    """Log-density of all sites by particle, shape (num_particles,)."""
    terms = [_split(site, num_particles) for site in sites]
    return torch.stack(terms).sum(0) if terms else torch.zeros(num_particles)


def _split(site: Message, num_particles: int) -> torch.Tensor:
    """Log-density of a site by particle, shape (num_particles,)."""
    log_prob = score(site)
    dim = next((frame.dim for frame in site.frames if frame.name == PARTICLES), None)
    if dim is None:
        return log_prob.sum().expand(num_particles)
    return log_prob.movedim(dim, 0).reshape(num_particles, -1).sum(1)
