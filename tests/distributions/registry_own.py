"""Our own families in the form of ``registry.py``: one line each, with scipy's counterpart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats as st

import brancher.distributions as dist

NO_DENSITY = "an atom has no density that integrates to one"
NOT_SEEN = "NaN means not observed, and is scored"
INNER = "shapes follow from the wrapped distribution"
NO_MAP = "no bijection leads onto two supports"
HEAVY = "the fourth moment is too large for a test of the variance"
NO_MOMENTS = "the moments have no closed form"


def skips(reason: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, reason)


def cases(case: Callable[..., Any]) -> list[Any]:
    return [*continuous(case), *counts(case), *vectors(case), *wrappers(case), *points(case)]


def continuous(case: Callable[..., Any]) -> list[Any]:
    location = {"loc": [0.0, -1.0], "scale": [[1.0], [3.0], [0.5]]}
    return [
        case(
            dist.InverseGamma,
            {"concentration": 5.0, "rate": 2.0},
            {"concentration": [6.0, 9.0], "rate": [[0.3], [4.0]]},
            scipy=lambda concentration, rate: st.invgamma(concentration, scale=rate),
            bad={"concentration": 0.0},
            outside=-1.0,
        ),
        case(
            dist.InverseGaussian,
            {"loc": 0.7, "concentration": 2.0},
            {"loc": [1.0, 3.0], "concentration": [[5.0], [20.0]]},
            scipy=lambda loc, concentration: st.invgauss(loc / concentration, scale=concentration),
            bad={"loc": 0.0},
            outside=-1.0,
        ),
        case(
            dist.AffineBeta,
            {"concentration1": 2.0, "concentration0": 3.0, "loc": -1.0, "scale": 4.0},
            {"concentration1": [2.0, 1.5], "concentration0": 3.0, "loc": [[0.0], [5.0]], "scale": 2.0},
            scipy=lambda concentration1, concentration0, loc, scale: st.beta(
                concentration1, concentration0, loc, scale
            ),
            bad={"scale": 0.0},
            outside=50.0,
        ),
        case(
            dist.NanMaskedNormal,
            {"loc": 0.3, "scale": 2.0},
            location,
            scipy=lambda loc, scale: st.norm(loc, scale),
            bad={"scale": -1.0},
            skip=skips(NOT_SEEN, "mask"),
        ),
        case(
            dist.Logistic,
            {"loc": 0.3, "scale": 2.0},
            location,
            scipy=lambda loc, scale: st.logistic(loc, scale),
            bad={"scale": -1.0},
        ),
        case(
            dist.SkewLogistic,
            {"loc": 0.3, "scale": 2.0, "asymmetry": 0.4},
            {**location, "asymmetry": [1.0, 3.0]},
            scipy=lambda loc, scale, asymmetry: st.genlogistic(asymmetry, loc, scale),
            bad={"asymmetry": 0.0},
        ),
        case(
            dist.AsymmetricLaplace,
            {"loc": 0.3, "scale": 2.0, "asymmetry": 0.4},
            {**location, "asymmetry": [1.0, 3.0]},
            scipy=lambda loc, scale, asymmetry: st.laplace_asymmetric(asymmetry, loc, scale),
            bad={"asymmetry": -1.0},
        ),
        case(
            dist.SoftAsymmetricLaplace,
            {"loc": 0.3, "scale": 2.0, "asymmetry": 0.4, "softness": 0.3},
            {**location, "asymmetry": [1.0, 3.0], "softness": 2.0},
            bad={"softness": 0.0},
        ),
        case(
            dist.SoftLaplace,
            {"loc": 0.3, "scale": 2.0},
            location,
            scipy=lambda loc, scale: st.hypsecant(loc, scale),
            bad={"scale": 0.0},
        ),
        case(
            dist.TruncatedNormal,
            {"loc": 0.3, "scale": 2.0, "low": -1.0, "high": 0.5},
            {"loc": [0.0, -4.0], "scale": [[1.0], [3.0]], "low": 1.0, "high": 9.0},
            scipy=lambda loc, scale, low, high: st.truncnorm(
                (low - loc) / scale, (high - loc) / scale, loc, scale
            ),
            bad={"scale": -1.0},
            outside=50.0,
        ),
        case(
            dist.TruncatedNormal,
            {"loc": [0.0, -4.0], "scale": [[1.0], [3.0]], "low": 1.0},
            scipy=lambda loc, scale, low: st.truncnorm((low - loc) / scale, np.inf, loc, scale),
            outside=0.5,
        ),
        case(
            dist.TruncatedNormal,
            {"loc": [0.0, 5.0], "scale": 0.5, "high": 1.0},
            scipy=lambda loc, scale, high: st.truncnorm(-np.inf, (high - loc) / scale, loc, scale),
            outside=1.5,
        ),
        case(
            dist.LogitNormal,
            {"loc": 0.3, "scale": 2.0},
            {"loc": [0.0, -1.0], "scale": [[1.0], [3.0], [0.5]]},
            bad={"scale": -1.0},
            outside=1.5,
        ),
    ]


def counts(case: Callable[..., Any]) -> list[Any]:
    return [
        case(
            dist.BetaBinomial,
            {"concentration1": 0.7, "concentration0": 2.0, "total_count": 6},
            {"concentration1": [1.0, 8.0], "concentration0": [[2.0], [0.5]], "total_count": 7},
            scipy=lambda concentration1, concentration0, total_count: st.betabinom(
                total_count, concentration1, concentration0
            ),
            bad={"concentration1": 0.0, "total_count": -1.0},
            outside=20.0,
        ),
        case(
            dist.ExtendedBetaBinomial,
            {"concentration1": 0.7, "concentration0": 2.0, "total_count": 6},
            {"concentration1": [1.0, 8.0], "concentration0": [[2.0], [0.5]], "total_count": 7},
            scipy=lambda concentration1, concentration0, total_count: st.betabinom(
                total_count, concentration1, concentration0
            ),
            bad={"concentration0": -1.0},
            outside=0.5,
        ),
        case(
            dist.ExtendedBinomial,
            {"total_count": 6, "probs": 0.3},
            {"total_count": 7, "logits": [[-1.0], [2.0]]},
            scipy=lambda total_count, probs=None, logits=None: st.binom(
                total_count, 1 / (1 + np.exp(-logits)) if probs is None else probs
            ),
            bad={"probs": 1.5},
            outside=0.5,
        ),
        case(
            dist.GammaPoisson,
            {"concentration": 0.7, "rate": 0.2},
            {"concentration": [1.0, 8.0], "rate": [[2.0], [0.5], [30.0]]},
            scipy=lambda concentration, rate: st.nbinom(concentration, rate / (1 + rate)),
            bad={"rate": 0.0},
            outside=-1.0,
        ),
        case(
            dist.LogNormalNegativeBinomial,
            {"total_count": 3.0, "logits": -0.5, "multiplicative_noise_scale": 0.3},
            {"total_count": [3.0, 8.0], "logits": [[0.5], [-1.0]], "multiplicative_noise_scale": 0.2},
            bad={"multiplicative_noise_scale": 0.0},
            outside=-1.0,
        ),
        case(
            dist.DirichletMultinomial,
            {"concentration": [0.5, 2.0, 1.0], "total_count": 4},
            {"concentration": [[0.5, 2.0], [3.0, 1.0]], "total_count": 5},
            scipy=lambda concentration, total_count: st.dirichlet_multinomial(concentration, total_count),
            bad={"concentration": [-1.0, 1.0]},
        ),
        case(
            dist.DiscreteUniform,
            {"low": 2.0, "high": 5.0},
            {"low": [0.0, 0.0], "high": [[4.0], [4.0]]},
            scipy=lambda low, high: st.randint(low, high + 1),
            outside=9.0,
            skip=skips("its parameters are integers", "gradient", "rsample"),
        ),
        case(
            dist.ZeroInflatedPoisson,
            {"rate": 2.0, "gate": 0.3},
            {"rate": [0.5, 4.0], "gate_logits": [[0.0], [-2.0]]},
            bad={"gate": 1.5, "rate": -1.0},
            outside=-1.0,
        ),
        case(
            dist.ZeroInflatedNegativeBinomial,
            {"total_count": 2.0, "probs": 0.4, "gate": 0.3},
            {"total_count": [0.5, 4.0], "logits": -1.0, "gate_logits": [[0.0], [-2.0]]},
            bad={"gate": -0.5},
            outside=-1.0,
        ),
        case(
            dist.OrderedLogistic,
            {"predictor": 0.3, "cutpoints": [-1.0, 0.5, 2.0]},
            {"predictor": [[0.0], [4.0]], "cutpoints": [[-1.0, 1.0], [0.0, 0.1]]},
            bad={"cutpoints": [1.0, 0.0]},
            outside=7.0,
            skip=skips("categories have no order", "moments"),
        ),
    ]


def vectors(case: Callable[..., Any]) -> list[Any]:
    return [
        case(
            dist.MultivariateStudentT,
            {"df": 7.0, "loc": [0.0, 1.0], "scale_tril": [[1.0, 0.0], [0.5, 2.0]]},
            {"df": [9.0, 30.0], "loc": [[0.0, 1.0], [2.0, 0.0]], "scale_tril": [[1.0, 0.0], [-0.5, 0.3]]},
            bad={"df": -1.0},
        ),
        case(
            dist.NanMaskedMultivariateNormal,
            {"loc": [0.0, 1.0], "scale_tril": [[1.0, 0.0], [0.5, 2.0]]},
            {"loc": [[0.0, 1.0], [2.0, 0.0]], "covariance_matrix": [[1.0, 0.3], [0.3, 2.0]]},
            bad={"scale_tril": [[-1.0, 0.0], [0.0, 1.0]]},
            skip=skips(NOT_SEEN, "mask"),
        ),
        case(
            dist.MixtureOfDiagNormals,
            {
                "locs": [[0.0, 1.0], [2.0, 0.0], [0.5, 0.5]],
                "coord_scale": [[1.0, 2.0], [0.5, 0.3], [0.2, 1.0]],
                "component_logits": [0.0, 1.0, -0.5],
            },
            {"locs": [[0.0, 1.0], [2.0, 0.0]], "coord_scale": [[1.0, 2.0]], "component_logits": [[0.0, 1.0]]},
            bad={"coord_scale": [[-1.0, 1.0]]},
        ),
        case(
            dist.MixtureOfDiagNormalsSharedCovariance,
            {"locs": [[0.0, 1.0], [2.0, 0.0]], "coord_scale": [1.0, 2.0], "component_logits": [0.0, 1.0]},
            bad={"coord_scale": [-1.0, 1.0]},
        ),
        case(
            dist.GaussianScaleMixture,
            {"coord_scale": [1.0, 2.0, 0.5], "component_logits": [0.0, 1.0], "component_scale": [1.0, 3.0]},
            bad={"component_scale": [-1.0, 1.0]},
        ),
        case(
            dist.VonMises3D,
            {"concentration": [0.0, 3.0, 1.0]},
            {"concentration": [[0.0, 0.0, 0.0], [30.0, 0.0, -9.0]]},
            skip=skips("the variance of a direction is not defined here", "moments"),
        ),
        case(
            dist.ProjectedNormal,
            {"concentration": [0.5, 1.0]},
            {"concentration": [[0.0, 3.0, 1.0], [0.0, 0.0, 0.0]]},
            {"concentration": [0.1, 0.2, -2.0, 0.4]},
            skip=skips("a mean direction is not a mean", "moments"),
        ),
        case(
            dist.RelaxedOneHotCategoricalStraightThrough,
            {"temperature": 0.5, "probs": [0.2, 0.5, 0.3]},
            {"temperature": 1.0, "logits": [[0.0, 1.0], [-1.0, 2.0]]},
            bad={"temperature": -1.0},
            skip=skips("the gradient is that of a relaxation", "gradient", "rsample"),
        ),
        case(
            dist.RelaxedBernoulliStraightThrough,
            {"temperature": 0.5, "probs": 0.3},
            {"temperature": 1.0, "logits": [[0.0], [-1.0]]},
            bad={"temperature": -1.0},
            outside=0.5,
            skip=skips("the gradient is that of a relaxation", "gradient", "rsample"),
        ),
    ]


def wrappers(case: Callable[..., Any]) -> list[Any]:
    inner = skips(INNER, "infer_shapes")
    return [
        case(
            dist.ZeroInflatedDistribution,
            {"total_count": 5, "probs": 0.4, "gate": 0.3},
            build=lambda total_count, probs, gate: dist.ZeroInflatedDistribution(
                dist.Binomial(total_count, probs), gate=gate
            ),
            bad={"gate": 1.5},
            outside=7.0,
            skip=inner,
        ),
        case(
            dist.FoldedDistribution,
            {"loc": 0.3, "scale": 2.0},
            build=lambda loc, scale: dist.FoldedDistribution(dist.Normal(loc, scale)),
            scipy=lambda loc, scale: st.foldnorm(loc / scale, scale=scale),
            outside=-1.0,
            skip=inner | skips(NO_MOMENTS, "moments"),
        ),
        case(
            dist.TruncatedDistribution,
            {"loc": 0.3, "scale": 2.0, "low": -1.0, "high": 4.0},
            {"loc": [0.3, 1.0], "scale": 2.0, "low": [[-1.0], [0.5]]},
            build=lambda loc, scale, low, high=None: dist.TruncatedDistribution(
                dist.Cauchy(loc, scale) if high is not None else dist.Logistic(loc, scale), low, high
            ),
            outside=-5.0,
            skip=inner | skips(NO_MOMENTS, "moments"),
        ),
        case(
            dist.MaskedMixture,
            {"loc": [0.3, 1.0], "scale": 2.0},
            build=lambda loc, scale: dist.MaskedMixture(
                loc > 0.5, dist.LogNormal(loc, scale), dist.Normal(loc, scale)
            ),
            skip=inner | skips(NO_MAP, "normalised") | skips(HEAVY, "moments"),
        ),
    ]


def points(case: Callable[..., Any]) -> list[Any]:
    atom = skips(NO_DENSITY, "normalised", "fit", "gradient", "moments", "independent")
    return [
        case(
            dist.Delta,
            {"v": [0.3, 2.0]},
            {"v": [[1.0, 2.0]], "log_density": [0.5], "event_dim": 1},
            skip=atom,
        ),
        case(dist.Unit, {"log_factor": [0.3, -2.0]}, skip=atom),
        case(
            dist.Empirical,
            {"samples": [0.5, 1.0, 1.0], "log_weights": [0.0, 1.0, -1.0]},
            {"samples": [[[0.5, 1.0], [2.0, 3.0]]], "log_weights": [[0.0, 1.0]]},
            skip=atom,
        ),
    ]
