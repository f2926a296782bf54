"""``TraceTailAdaptive_ELBO``: a divergence whose tail is as heavy as the weights at hand allow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from brancher.distributions.validation import validation_enabled
from brancher.errors import InferenceError
from brancher.handlers import Trace, replay, trace
from brancher.infer.elbo.elbo import ELBO, Estimate, check_pyro_options
from brancher.infer.elbo.renyi import per_particle
from brancher.infer.elbo.trace_elbo import needs_score_function
from brancher.params import current_store

Fn = Callable[..., Any]


class TraceTailAdaptive_ELBO(ELBO):  # noqa: N801
    """Fit a guide by an f-divergence that covers more of the posterior than the ELBO does.

    Wang, Liu & Liu 2018, arXiv:1810.11943, algorithm 1. With ``w_k = p(x, z_k) / q(z_k)``, the gradient is
    that of ``log w_k`` along the paths of the draws alone, averaged by weights ``F_k^beta``: ``F_k`` is the
    share of draws whose ``w`` is at least ``w_k``. ``beta = -1`` gives the draw with the largest ``w`` n
    times the say of the one with the smallest; ``beta = 0`` is the ELBO. As ranks alone count, the variance
    is bounded, however heavy the tail of ``w``.

    The loss that is reported is the negative ELBO of the draws; it is not what is minimised.

    Args:
        num_particles: draws that are ranked against each other, > 1.
        tail_adaptive_beta: exponent of the tail probability, <= 0.
        max_plate_nesting: see :class:`Trace_ELBO`.
        vectorize_particles: see :class:`Trace_ELBO`.

    Raises:
        InferenceError: an argument is out of range; or, at a step, a guide site has no pathwise gradient.

    Example:
        >>> from brancher.infer import SVI, TraceTailAdaptive_ELBO
        >>> svi = SVI(lambda: sample("x", dist.Normal(0.0, 1.0)), loss=TraceTailAdaptive_ELBO(10))
        >>> svi.step() < 10.0
        True
    """

    def __init__(
        self,
        num_particles: int = 10,
        tail_adaptive_beta: float = -1.0,
        max_plate_nesting: int | float | None = None,
        vectorize_particles: bool | None = None,
        **pyro_options: Any,
    ) -> None:
        check_pyro_options(self, pyro_options)
        super().__init__(num_particles, max_plate_nesting, vectorize_particles)
        if num_particles == 1:
            raise InferenceError(
                "TraceTailAdaptive_ELBO: expected num_particles > 1, got 1; use Trace_ELBO, the same for one"
            )
        beta = tail_adaptive_beta
        if isinstance(beta, bool) or not isinstance(beta, (int, float)) or not -math.inf < beta <= 0:
            raise InferenceError(
                f"TraceTailAdaptive_ELBO: expected tail_adaptive_beta as a number <= 0, got {beta!r}; -1 is "
                "usual"
            )
        self.tail_adaptive_beta = float(beta)

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> _Run:
        """Log-densities and draws of one run."""
        guide_sites = list(guide_trace.scored())
        for site in guide_sites:
            if needs_score_function(site):
                raise InferenceError(
                    f"TraceTailAdaptive_ELBO: expected guide sites with pathwise gradients, got site "
                    f"'{site.name}' without; use RenyiELBO"
                )
        log_p = per_particle(model_trace.scored(), num_particles)
        return _Run(log_p, per_particle(guide_sites, num_particles), guide_trace)

    def estimates(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Estimate]:
        """Join the particles of all runs, rank them and weigh them."""
        runs = list(self.runs(model, guide, args, kwargs))
        along = torch.cat([self._along_paths(model, guide, run, args, kwargs) for run in runs])
        log_p = torch.cat([run.log_p for run in runs])
        log_weight = log_p - torch.cat([run.log_q for run in runs])
        weight = tail_weights(log_weight.detach(), self.tail_adaptive_beta)
        surrogate = (weight * (along - log_p)).sum()
        yield Estimate(-log_weight.mean(), surrogate)

    def _along_paths(
        self, model: Fn, guide: Fn, run: _Run, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> torch.Tensor:
        """Log-density of a run's draws with the guide's parameters held still, by particle."""
        store = current_store()
        still = {name: leaf.detach() for name, leaf in store.unconstrained().items()}
        # The run itself has been checked.
        with store.substituted(still), validation_enabled(False), self.particles(model, guide, args, kwargs):
            again = trace(replay(guide, trace=run.drawn)).get_trace(*args, **kwargs)
            return per_particle(again.scored(), len(run.log_p))


class _Run(NamedTuple):
    """One run of guide and model.

    Attributes:
        log_p: log-density under the model, shape (particles of the run,).
        log_q: under the guide.
        drawn: the guide's trace.
    """

    log_p: torch.Tensor
    log_q: torch.Tensor
    drawn: Trace


def tail_weights(log_weight: torch.Tensor, beta: float) -> torch.Tensor:
    """The share of each draw in the gradient: a power of its rank among the weights.

    Args:
        log_weight: log-weights, shape (n,).
        beta: the power.

    Returns:
        Shape (n,); their sum is 1.
    """
    is_above = log_weight.unsqueeze(0) >= log_weight.unsqueeze(1)
    power = is_above.to(log_weight.dtype).mean(1).pow(beta)
    return power / power.sum()
