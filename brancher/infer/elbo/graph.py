"""``TraceGraph_ELBO``: Pyro's name for a score-function gradient with fewer terms."""

from __future__ import annotations

from brancher.infer.elbo.trace_elbo import Trace_ELBO


class TraceGraph_ELBO(Trace_ELBO):  # noqa: N801
    """Estimate the negative ELBO like :class:`Trace_ELBO`, which leaves out terms of other rows by itself.

    In Pyro this is the objective with Rao-Blackwellised score-function gradients and baselines; here
    every objective has them. A guide's site asks for a baseline of its own by
    ``infer={"baseline": {"use_decaying_avg_baseline": True, "baseline_beta": 0.95}}`` or
    ``{"baseline_value": tensor}`` or ``{"nn_baseline": network, "nn_baseline_input": tensor}``; without
    one it has none, as in Pyro.

    Args:
        num_particles: see :class:`Trace_ELBO`, as are the others.
        baseline_decay: weight of the past in the baselines of sites that ask for none; None for no baseline.

    Example:
        >>> from brancher.infer import TraceGraph_ELBO
        >>> model = lambda: sample("x", dist.Bernoulli(0.5))
        >>> guide = lambda: sample("x", dist.Bernoulli(0.5), infer={"baseline": {"baseline_value": 0.1}})
        >>> TraceGraph_ELBO().loss(model, guide)
        0.0
    """

    def __init__(
        self,
        num_particles: int = 1,
        max_plate_nesting: int | float | None = None,
        vectorize_particles: bool | None = None,
        baseline_decay: float | None = None,
        **options: object,
    ) -> None:
        super().__init__(num_particles, max_plate_nesting, vectorize_particles, baseline_decay, **options)
