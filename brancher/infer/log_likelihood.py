"""``log_likelihood``: the density of every observation under every draw."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from brancher.errors import InferenceError, InferenceTypeError
from brancher.handlers import Message, Trace, stack, trace
from brancher.handlers.density import score
from brancher.infer.agreement import choose
from brancher.infer.compiled_runs import CompiledRuns
from brancher.infer.draws import check_count, flat_draws, warn_unknown
from brancher.infer.replicate import Run, lay_out, replicate
from brancher.infer.samples import Samples, labels_of
from brancher.params import undone_on_error


@stack.restored()
@undone_on_error()
def log_likelihood(
    model: Callable[..., Any],
    posterior_samples: Mapping[str, Any],
    *args: Any,
    parallel: bool | None = None,
    batch_size: int | None = None,
    batch_ndims: int | None = None,
    compile: bool = False,
    **kwargs: Any,
) -> Samples:
    """Log-density of the observed sites under each draw, one entry an observation.

    Masks count; the scales of subsampled plates do not.

    Args:
        model: the model; called with ``*args, **kwargs``, its data among them.
        posterior_samples: values for all latent sites, shape ``(draws, *site)``.
        *args: arguments of the model.
        parallel: as for :class:`Predictive`.
        batch_size: how many draws to run in one batch; None for all.
        batch_ndims: dimensions on the left that count draws, 2 where grouped by chain.
        compile: run all draws as one compiled graph, kept for the next call with the same model.
        **kwargs: keyword arguments of the model.

    Returns:
        Nats by observed site, shape ``(draws, *batch)``.

    Raises:
        InferenceTypeError: the model is no function, or the samples are no mapping.
        InferenceError: a latent site has no samples, or nothing is observed.

    Example:
        >>> from brancher.infer import log_likelihood
        >>> def model(y):
        ...     mu = sample("mu", dist.Normal(0.0, 1.0))
        ...     with plate("row", len(y)):
        ...         sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> log_likelihood(model, {"mu": torch.zeros(4)}, torch.zeros(3))["y"].shape
        torch.Size([4, 3])
    """
    if not callable(model):
        raise InferenceTypeError(
            f"log_likelihood: expected model as a function, got {type(model).__name__}; write "
            "log_likelihood(model, posterior_samples, *args)"
        )
    check_count("log_likelihood", "batch_size", batch_size)
    given, lead = flat_draws("log_likelihood", posterior_samples, batch_ndims)
    if lead is None:
        raise InferenceError(
            "log_likelihood: expected samples of the model's latent sites, got an empty mapping; "
            "give mcmc.get_samples() or the draws of a guide"
        )

    def make_run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        return lambda: (trace(model).get_trace(*args, **kwargs),)

    run = make_run(args, kwargs)
    layout = lay_out(run, given)
    record = layout.traces[0]
    warn_unknown("log_likelihood", given, record)
    _check_sites(record, given)
    observed = [site for site in record.sites("sample") if site.is_observed]
    count = lead.numel()
    choice = choose(run, layout, count, parallel)
    way = choice.way
    if compile:
        names = tuple(site.name for site in observed)
        way = _compiled_runs(model).way(choice, make_run, args, kwargs, names)
    values = replicate(way, run, _densities, layout, count, batch_size)
    shaped = {name: value.reshape(lead + value.shape[1:]) for name, value in values.items()}
    dims, coords = labels_of([_density_site(site) for site in observed], record)
    return Samples(shaped, dims, coords, batch_ndims=len(lead))


@functools.lru_cache(maxsize=16)
def _compiled_runs(model: Callable[..., Any]) -> CompiledRuns:
    return CompiledRuns("log_likelihood", model)


def _check_sites(record: Trace, given: Mapping[str, torch.Tensor]) -> None:
    missing = [name for name in record.stochastic_nodes if name not in given]
    if missing:
        raise InferenceError(
            f"log_likelihood: expected samples of every latent site {record.stochastic_nodes}, got none "
            f"of {missing}; "
            "add them to posterior_samples, or give the model their data if they are observed"
        )
    if not record.observation_nodes:
        raise InferenceError(
            "log_likelihood: expected a model with observed sites, got none; give it its data"
        )


def _densities(traces: Sequence[Trace]) -> dict[str, torch.Tensor]:
    return {site.name: _density(site) for site in traces[0].sites("sample") if site.is_observed}


def _density(site: Message) -> torch.Tensor:
    score(site)
    density: torch.Tensor = site.unscaled_log_prob  # type: ignore[assignment]
    return density


def _density_site(site: Message) -> Message:
    """A stand-in for labels: a density has the site's batch dimensions alone."""
    return Message(
        "deterministic", site.name, None, value=_density(site), kwargs={"event_dim": 0}, frames=site.frames
    )
