"""A run as an ArviZ object: InferenceData of 0.x, a DataTree of 1.x."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from brancher.errors import require
from brancher.handlers import trace
from brancher.infer.log_likelihood import log_likelihood
from brancher.infer.samples import Samples, labels_of
from brancher.staging import random_state_kept


def to_arviz(samples: Samples, stats: Mapping[str, Tensor], density: Any) -> Any:
    """Build posterior, sample_stats, log_likelihood and observed_data, with coords and dims of the plates.

    Raises:
        MissingExtraError: ArviZ is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # 0.23 announces 1.x at import
        az = require("arviz", "arviz", "MCMC.to_arviz")
    groups: dict[str, dict[str, Any]] = {"posterior": _numpy(samples), "sample_stats": _numpy(stats)}
    dims = {name: list(names) for name, names in samples.dims.items()}
    coords = dict(samples.coords)
    if getattr(density, "observed", []):
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
    if int(az.__version__.split(".")[0]) >= 1:
        return az.from_dict(groups, coords=coords, dims=dims)
    return az.from_dict(**groups, coords=coords, dims=dims)


def _latent(density: Any) -> list[str]:
    return [slot.name for slot in density.slots]


def _rank(site: Any) -> int:
    return len(site.fn.batch_shape)


def _numpy(values: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value.detach().cpu().numpy() for name, value in values.items()}
