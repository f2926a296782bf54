"""Estimates of the log evidence, by a model and its posterior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from brancher.errors import InferenceError
from brancher.infer import Importance
from brancher.infer.diagnostics import psis
from brancher.infer.draws import check_count
from brancher.params import using
from brancher.symbolic.draws import frame_of
from brancher.symbolic.methods import elbo
from brancher.symbolic.pairs import Pair
from brancher.symbolic.particles import PointPosterior

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("ELBO", "IS", "PSIS", "SMC")


def estimate(pair: Pair, method: str, number_samples: int, **options: Any) -> float:
    """Estimate the log evidence in nats; see :meth:`ProbabilisticModel.estimate_log_model_evidence`."""
    check_count("estimate_log_model_evidence", "number_samples", number_samples)
    if method not in METHODS:
        raise InferenceError(
            f"estimate_log_model_evidence: expected method among {list(METHODS)}, got {method!r}"
        )
    _refuse_points(pair)
    if method == "SMC":
        from brancher.symbolic.tempering import tempered_evidence

        with using(pair.store):
            return tempered_evidence(pair, number_samples, **options)
    if method == "ELBO":
        with using(pair.store):
            return -elbo(pair, number_samples).loss(pair.model, pair.guide)
    log_weights = _importance(pair, number_samples).log_weights
    if method == "PSIS":
        smoothed = psis(log_weights, normalize=False)[0] + log_weights.max()
        return float(smoothed.logsumexp(0)) - math.log(number_samples)
    return float(log_weights.logsumexp(0)) - math.log(number_samples)


def _importance(pair: Pair, number_samples: int) -> Importance:
    with using(pair.store):
        return Importance(pair.model, pair.guide, number_samples, parallel=number_samples > 1).run()


def weighted_draws(pair: Pair, number_samples: int) -> pd.DataFrame:
    """Draws of latent variables with their importance weights, normalised to sum 1."""
    _refuse_points(pair)
    run = _importance(pair, number_samples)
    latents = {name: value for name, value in run.samples.items() if name in pair.latents}
    frame = frame_of(latents)
    frame["weight"] = run.weights.detach().numpy().astype(float)
    return frame


def _refuse_points(pair: Pair) -> None:
    if isinstance(pair.guide, PointPosterior):
        raise InferenceError(
            "estimate_log_model_evidence: expected a posterior with a density, got one of points; fit one by "
            "inference.ReverseKL"
        )


def log_ratio(values: torch.Tensor) -> torch.Tensor:
    """Log of the mean of exponentials over the first dimension."""
    return values.logsumexp(0) - math.log(len(values))
