"""A run as an ArviZ object: InferenceData of 0.x, a DataTree of 1.x."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from brancher.errors import InferenceError, require
from brancher.handlers import trace
from brancher.infer.log_likelihood import log_likelihood
from brancher.infer.samples import Samples, labels_of
from brancher.staging import random_state_kept


def to_arviz(
    samples: Samples,
    stats: Mapping[str, Tensor],
    density: Any,
    prior: Mapping[str, Tensor] | None = None,
    posterior_predictive: Mapping[str, Tensor] | None = None,
) -> Any:
    """Build posterior, sample_stats, log_likelihood and observed_data, with coords and dims of the plates.

    Args:
        samples: the draws, ``(chains, draws, *site)``.
        stats: what each draw reported, ``(chains, draws)``.
        density: where they come from; a `Potential` knows the model and its data.
        prior: draws of the prior, ``(draws, *site)``; observed sites become the group prior_predictive.
        posterior_predictive: new data for every draw, ``(chains * draws, *site)``.

    Raises:
        MissingExtraError: ArviZ is not installed.
        InferenceError: the predictive draws are not as many as the posterior's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # 0.23 announces 1.x at import
        az = require("arviz", "arviz", "MCMC.to_arviz")
    groups: dict[str, dict[str, Any]] = {"posterior": _numpy(samples), "sample_stats": _numpy(stats)}
    dims = {name: list(names) for name, names in samples.dims.items()}
    coords = dict(samples.coords)
    observed_names = list(getattr(density, "observed", []))
    if prior is not None:
        alone = {name: value[None] for name, value in prior.items()}
        groups["prior"] = _numpy({name: alone[name] for name in alone if name not in observed_names})
        groups["prior_predictive"] = _numpy({name: alone[name] for name in alone if name in observed_names})
    if posterior_predictive is not None:
        groups["posterior_predictive"] = _numpy(_by_chain(posterior_predictive, samples))
    if observed_names:
        with torch.no_grad(), random_state_kept():
            record = trace(density.model).get_trace(*density.args, **density.kwargs)
        observed = {name: record.nodes[name] for name in density.observed}
        found, labels = labels_of(observed.values(), record)
        latent = Samples({name: samples[name] for name in _latent(density)}, batch_ndims=2)
        values = log_likelihood(density.model, latent, *density.args, **density.kwargs)
        chains, draws = next(iter(samples.values())).shape[:2]
        grouped = {name: value.reshape(chains, draws, *value.shape[-_rank(observed[name]) or value.dim() :])
                   for name, value in values.items()}  # fmt: skip
        groups["log_likelihood"] = _numpy(grouped)
        groups["observed_data"] = _numpy({name: site.value for name, site in observed.items()})
        dims |= {name: list(names) for name, names in found.items()}
        coords |= labels
    groups = {name: group for name, group in groups.items() if group}
    if int(az.__version__.split(".")[0]) >= 1:
        return az.from_dict(groups, coords=coords, dims=dims)
    return az.from_dict(**groups, coords=coords, dims=dims)


def _by_chain(flat: Mapping[str, Tensor], samples: Samples) -> dict[str, Tensor]:
    """Predictive draws as ``(chains, draws, *site)``, of those that do so already or lie in one row."""
    chains, draws = next(iter(samples.values())).shape[:2]
    grouped = {}
    for name, value in flat.items():
        if value.shape[:2] == (chains, draws):
            grouped[name] = value
        elif value.shape[:1] == (chains * draws,):
            grouped[name] = value.reshape(chains, draws, *value.shape[1:])
        else:
            raise InferenceError(
                f"MCMC.to_arviz: expected {chains} x {draws} draws of posterior_predictive '{name}', got "
                f"shape {tuple(value.shape)}; predict from get_samples()"
            )
    return grouped


def _latent(density: Any) -> list[str]:
    return [slot.name for slot in density.slots]


def _rank(site: Any) -> int:
    return len(site.fn.batch_shape)


def _numpy(values: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value.detach().cpu().numpy() for name, value in values.items()}
