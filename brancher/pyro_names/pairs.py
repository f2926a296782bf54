"""Guide and model run together, under Pyro's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from brancher.handlers import Trace
from brancher.infer import Importance
from brancher.infer.checks import check_pair
from brancher.infer.draws import check_count
from brancher.infer.elbo.renyi import per_particle
from brancher.infer.pairing import paired_traces
from brancher.infer.particles import particle_plate

__all__ = ["get_importance_trace", "psis_diagnostic", "vectorized_importance_weights"]

Fn = Callable[..., Any]


def get_importance_trace(
    graph_type: str,
    max_plate_nesting: int | float | None,
    model: Fn,
    guide: Fn,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    detach: bool = False,
) -> tuple[Trace, Trace]:
    """Trace a guide, and its model replayed on the guide's draws, with their log-densities.

    Args:
        graph_type: taken from programs written for Pyro; every trace is flat.
        max_plate_nesting: as ``graph_type``.
        model: the model.
        guide: the guide.
        args: arguments of both.
        kwargs: keyword arguments of both.
        detach: cut the draws off from the guide's parameters.

    Returns:
        The trace of the model and the trace of the guide.

    Raises:
        GuideError: guide and model differ in their latent sites.
    """
    model_trace, guide_trace = paired_traces(model, guide, args, kwargs)
    check_pair(model_trace, guide_trace)
    if detach:
        for record in (guide_trace, model_trace):
            record.detach_()
    for record in (model_trace, guide_trace):
        record.compute_log_prob()
    return model_trace, guide_trace


def vectorized_importance_weights(
    model: Fn,
    guide: Fn,
    *args: Any,
    num_samples: int,
    max_plate_nesting: int,
    normalized: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, Trace, Trace]:
    """Importance weights of draws that run as one batch, left of the model's plates.

    Args:
        model: the model.
        guide: the guide.
        *args: arguments of both.
        num_samples: how many draws, > 0.
        max_plate_nesting: how many batch dimensions the plates of both use.
        normalized: whether the weights add up to 1.
        **kwargs: keyword arguments of both.

    Returns:
        Log-weights in nats, shape (num_samples,), and the traces of model and guide.

    Raises:
        GuideError: guide and model differ in their latent sites.
    """
    check_count("vectorized_importance_weights", "num_samples", num_samples)
    with particle_plate(num_samples, max_plate_nesting):
        model_trace, guide_trace = paired_traces(model, guide, args, kwargs)
    check_pair(model_trace, guide_trace)
    log_p, log_q = (per_particle(each.scored(), num_samples) for each in (model_trace, guide_trace))
    log_weights = log_p - log_q
    return log_weights.log_softmax(0) if normalized else log_weights, model_trace, guide_trace


def psis_diagnostic(
    model: Fn,
    guide: Fn,
    *args: Any,
    num_particles: int = 1000,
    max_simultaneous_particles: int | None = None,
    max_plate_nesting: int | float | None = None,
    **kwargs: Any,
) -> float:
    """Shape of the tail of importance weights: below 0.5 the guide is good, above 0.7 it is not.

    ``Importance(model, guide).run(*args).pareto_k`` is the same.

    Args:
        model: the model.
        guide: the guide.
        *args: arguments of both.
        num_particles: how many weights.
        max_simultaneous_particles: how many at a time; all for None.
        max_plate_nesting: taken from programs written for Pyro; it is found out.
        **kwargs: keyword arguments of both.
    """
    weights = Importance(model, guide, num_particles, batch_size=max_simultaneous_particles)
    return weights.run(*args, **kwargs).pareto_k
