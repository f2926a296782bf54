"""torch's families as ours: one line each, with several argument sets and scipy's counterpart.

``registry_own.py`` has the same form for the families that torch lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.stats as st
import torch

import brancher.distributions as dist

EYE = [[1.0, 0.0], [0.0, 1.0]]
TRIL = [[1.0, 0.0], [0.5, 2.0]]
COV = [[2.0, 0.3], [0.3, 1.0]]
WEIGHTS = [0.2, 0.3, 0.5]
NO_MOMENTS = {"moments": "the variance is infinite", "rsample": "the variance is infinite"}
NO_SHAPES = {"infer_shapes": "a number or a distribution decides the shape"}


def table(probs: Any = None, logits: Any = None) -> Any:
    """A categorical law in scipy's interface."""
    weights = np.exp(logits) if probs is None else probs
    log_probs = np.log(weights / weights.sum(-1, keepdims=True))
    rows = np.broadcast_to

    def logpmf(k: Any) -> Any:
        full = rows(log_probs, (*k.shape, log_probs.shape[-1]))
        return np.take_along_axis(full, k[..., None].astype(int), -1)[..., 0]

    return SimpleNamespace(logpmf=logpmf)


def binomial_like(law: Callable[..., Any], swap: bool = False) -> Callable[..., Any]:
    """Read probs or logits, and pass scipy the probability it wants."""

    def build(probs: Any = None, logits: Any = None, **others: Any) -> Any:
        p = 1 / (1 + np.exp(-np.asarray(logits))) if probs is None else probs
        return law(*others.values(), 1 - p if swap else p)

    return build


def wishart(df: Any, **matrix: Any) -> Any:
    name, value = next(iter(matrix.items()))
    scale = {"covariance_matrix": lambda m: m, "scale_tril": lambda m: m @ m.T}.get(name, np.linalg.inv)(
        value
    )
    law = st.wishart(float(df), scale)
    return SimpleNamespace(logpdf=lambda x: law.logpdf(np.moveaxis(x, 0, -1)))


def mixture(logits: torch.Tensor, loc: torch.Tensor) -> Any:
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, 1.0))


def cases(case: Callable[..., Any]) -> list[Any]:
    return [
        *continuous(case),
        *positive(case),
        *bounded(case),
        *discrete(case),
        *vectors(case),
        *matrices(case),
    ]


def continuous(case: Callable[..., Any]) -> list[Any]:
    loc_scale = {"loc": 0.3, "scale": 2.0}
    batch = {"loc": [0.0, -1.0], "scale": [[1.0], [3.0], [0.5]]}
    nan = float("nan")
    return [
        case(
            dist.Normal,
            loc_scale,
            batch,
            scipy=lambda loc, scale: st.norm(loc, scale),
            bad={"scale": -1.0, "loc": nan},
            outside=nan,
        ),
        case(
            dist.Laplace,
            loc_scale,
            batch,
            scipy=lambda loc, scale: st.laplace(loc, scale),
            bad={"scale": 0.0},
            outside=nan,
        ),
        case(
            dist.Cauchy,
            loc_scale,
            batch,
            scipy=lambda loc, scale: st.cauchy(loc, scale),
            bad={"scale": -1.0},
            outside=nan,
            skip=NO_MOMENTS,
        ),
        case(
            dist.Gumbel,
            loc_scale,
            batch,
            scipy=lambda loc, scale: st.gumbel_r(loc, scale),
            bad={"scale": -1.0},
            outside=nan,
        ),
        case(
            dist.StudentT,
            {"df": 7.5, "loc": 0.3, "scale": 2.0},
            {"df": [9.0, 40.0], "loc": [[0.0], [1.0]], "scale": 0.5},
            scipy=lambda df, loc, scale: st.t(df, loc, scale),
            bad={"df": 0.0, "scale": -1.0},
            outside=nan,
        ),
        case(
            dist.LogitRelaxedBernoulli,
            {"temperature": 0.7, "probs": 0.3},
            {"temperature": 2.0, "logits": [0.0, -1.0]},
            bad={"temperature": 0.0},
            outside=nan,
            skip={"moments": "torch has no formula"},
        ),
        case(
            dist.MixtureSameFamily,
            {"logits": [0.0, 1.0, -1.0], "loc": [-2.0, 0.0, 3.0]},
            {"logits": [0.0, 1.0], "loc": [[-2.0, 0.0], [1.0, 3.0]]},
            build=mixture,
            outside=nan,
            skip=NO_SHAPES,
        ),
        case(
            dist.TransformedDistribution,
            {"loc": 0.5, "scale": 2.0},
            build=lambda loc, scale: dist.TransformedDistribution(
                dist.Normal(0.0 * loc, 1.0), [dist.AffineTransform(loc, scale)]
            ),
            scipy=lambda loc, scale: st.norm(loc, scale),
            outside=nan,
            skip={**NO_SHAPES, "moments": "torch has no formula"},
        ),
    ]


def positive(case: Callable[..., Any]) -> list[Any]:
    return [
        case(
            dist.HalfNormal,
            {"scale": 2.0},
            {"scale": [1.0, 0.1]},
            scipy=lambda scale: st.halfnorm(scale=scale),
            bad={"scale": -1.0},
            outside=-1.0,
        ),
        case(
            dist.HalfCauchy,
            {"scale": 2.0},
            {"scale": [1.0, 0.1]},
            scipy=lambda scale: st.halfcauchy(scale=scale),
            bad={"scale": -1.0},
            outside=-1.0,
            skip=NO_MOMENTS,
        ),
        case(
            dist.LogNormal,
            {"loc": 0.3, "scale": 0.4},
            {"loc": [0.0, -1.0], "scale": [[0.1], [0.3], [0.5]]},
            scipy=lambda loc, scale: st.lognorm(scale, scale=np.exp(loc)),
            bad={"scale": -1.0},
            outside=-1.0,
        ),
        case(
            dist.Gamma,
            {"concentration": 2.5, "rate": 0.5},
            {"concentration": [0.4, 30.0], "rate": [[1.0], [3.0]]},
            scipy=lambda concentration, rate: st.gamma(concentration, scale=1 / rate),
            bad={"concentration": 0.0, "rate": -1.0},
            outside=-1.0,
        ),
        case(
            dist.Chi2,
            {"df": 3.0},
            {"df": [1.0, 50.0]},
            scipy=lambda df: st.chi2(df),
            bad={"df": -1.0},
            outside=-1.0,
        ),
        case(
            dist.Exponential,
            {"rate": 3.0},
            {"rate": [1.0, 50.0]},
            scipy=lambda rate: st.expon(scale=1 / rate),
            bad={"rate": -1.0},
            outside=-1.0,
        ),
        case(
            dist.FisherSnedecor,
            {"df1": 3.0, "df2": 30.0},
            {"df1": [4.0, 7.0], "df2": [[20.0], [40.0]]},
            scipy=lambda df1, df2: st.f(df1, df2),
            bad={"df1": -1.0, "df2": 0.0},
            outside=-1.0,
        ),
        case(
            dist.Weibull,
            {"scale": 2.0, "concentration": 1.5},
            {"scale": [1.0, 3.0], "concentration": [[1.0], [4.0]]},
            scipy=lambda scale, concentration: st.weibull_min(concentration, scale=scale),
            bad={"scale": -1.0, "concentration": 0.0},
            outside=-1.0,
        ),
        case(
            dist.Pareto,
            {"scale": 2.0, "alpha": 6.0},
            {"scale": [1.0, 3.0], "alpha": [[9.0], [20.0]]},
            scipy=lambda scale, alpha: st.pareto(alpha, scale=scale),
            bad={"scale": -1.0, "alpha": 0.0},
            outside=0.5,
        ),
        case(
            dist.GeneralizedPareto,
            {"loc": 0.5, "scale": 2.0, "concentration": 0.1},
            {"loc": [0.0, 1.0], "scale": 0.5, "concentration": [[0.0], [-0.3], [0.15]]},
            scipy=lambda loc, scale, concentration: st.genpareto(concentration, loc, scale),
            bad={"scale": -1.0},
            outside=-1.0,
        ),
    ]


def bounded(case: Callable[..., Any]) -> list[Any]:
    pair = {"concentration1": 2.5, "concentration0": 0.7}
    batch = {"concentration1": [0.5, 30.0], "concentration0": [[1.0], [3.0]]}
    return [
        case(
            dist.Uniform,
            {"low": -1.0, "high": 2.0},
            {"low": [0.0, 1.0], "high": [[2.0], [5.0]]},
            scipy=lambda low, high: st.uniform(low, high - low),
            bad={"high": -3.0},
            outside=7.0,
        ),
        case(
            dist.Beta,
            pair,
            batch,
            scipy=lambda concentration1, concentration0: st.beta(concentration1, concentration0),
            bad={"concentration1": 0.0, "concentration0": -1.0},
            outside=1.5,
        ),
        case(
            dist.Kumaraswamy,
            pair,
            batch,
            bad={"concentration1": 0.0, "concentration0": -1.0},
            outside=1.5,
        ),
        case(
            dist.ContinuousBernoulli,
            {"probs": 0.3},
            {"logits": [0.0, 3.0, -20.0]},
            outside=1.5,
        ),
        case(
            dist.RelaxedBernoulli,
            {"temperature": 0.7, "probs": 0.3},
            {"temperature": 2.0, "logits": [0.0, -1.0]},
            bad={"temperature": 0.0},
            outside=1.5,
            skip={"moments": "torch has no formula"},
        ),
        case(
            dist.VonMises,
            {"loc": 0.3, "concentration": 2.0},
            {"loc": [0.0, -1.0], "concentration": [[0.01], [300.0]]},
            scipy=lambda loc, concentration: st.vonmises(concentration, loc),
            bad={"concentration": 0.0},
            outside=float("nan"),
            skip={
                "moments": "mean and variance are circular",
                "normalised": "the density is periodic on the line; test_von_mises.py integrates a period",
                "fit": "torch has no distribution function; test_von_mises.py compares with scipy's",
            },
        ),
    ]


def discrete(case: Callable[..., Any]) -> list[Any]:
    return [
        case(
            dist.Bernoulli,
            {"probs": 0.3},
            {"logits": [0.0, 3.0, -4.0]},
            scipy=binomial_like(st.bernoulli),
            bad={"probs": 1.5},
            outside=2.0,
        ),
        case(
            dist.Binomial,
            {"total_count": 7.0, "probs": 0.3},
            {"total_count": 20, "logits": [0.0, 1.0, -2.0]},
            scipy=binomial_like(st.binom),
            bad={"probs": -0.5, "total_count": -1.0},
            outside=8.5,
        ),
        case(
            dist.NegativeBinomial,
            {"total_count": 3.5, "probs": 0.3},
            {"total_count": [[20.0], [1.0]], "logits": [0.0, 1.0, -2.0]},
            scipy=binomial_like(st.nbinom, swap=True),
            bad={"probs": 1.0, "total_count": -1.0},
            outside=-1.0,
        ),
        case(
            dist.Geometric,
            {"probs": 0.3},
            {"logits": [0.0, 3.0, -2.0]},
            scipy=binomial_like(lambda p: st.geom(p, -1)),
            bad={"probs": 0.0},
            outside=-1.0,
        ),
        case(
            dist.Poisson,
            {"rate": 3.0},
            {"rate": [0.1, 200.0]},
            scipy=lambda rate: st.poisson(rate),
            bad={"rate": -1.0},
            outside=0.5,
        ),
        case(
            dist.Categorical,
            {"probs": WEIGHTS},
            {"logits": [WEIGHTS, [0.0, -3.0, 2.0]]},
            scipy=table,
            bad={"probs": [-0.5, 1.0, 1.0]},
            outside=3,
            skip={"moments": "categories have no order"},
        ),
    ]


def vectors(case: Callable[..., Any]) -> list[Any]:
    return [
        case(
            dist.OneHotCategorical,
            {"probs": WEIGHTS},
            {"logits": [WEIGHTS, [0.0, -3.0, 2.0]]},
            bad={"probs": [-0.5, 1.0, 1.0]},
            outside=[1.0, 1.0, 0.0],
        ),
        case(
            dist.OneHotCategoricalStraightThrough,
            {"probs": WEIGHTS},
            {"logits": [WEIGHTS, [0.0, -3.0, 2.0]]},
            bad={"probs": [-0.5, 1.0, 1.0]},
            outside=[1.0, 1.0, 0.0],
        ),
        case(
            dist.Multinomial,
            {"total_count": 7, "probs": WEIGHTS},
            {"total_count": 20, "probs": [0.1, 0.9]},
            scipy=lambda total_count, probs: st.multinomial(total_count, probs),
            bad={"probs": [-0.5, 1.0, 1.0], "total_count": -1},
            outside=[-1.0, 8.0, 0.0],
        ),
        case(
            dist.Dirichlet,
            {"concentration": [0.5, 2.0, 4.0]},
            {"concentration": [[1.0, 1.0], [3.0, 0.4]]},
            bad={"concentration": [0.0, 1.0]},
            outside=[0.5, 0.6, 0.7],
        ),
        case(
            dist.MultivariateNormal,
            {"loc": [0.0, 1.0], "covariance_matrix": COV},
            {"loc": [[0.0, 1.0], [2.0, 3.0]], "scale_tril": TRIL},
            {"loc": [0.0, 1.0], "precision_matrix": [COV, EYE]},
            bad={"covariance_matrix": [[1.0, 2.0], [2.0, 1.0]]},
            outside=[float("nan"), 0.0],
        ),
        case(
            dist.LowRankMultivariateNormal,
            {"loc": [0.0, 1.0, 2.0], "cov_factor": [[1.0], [0.5], [-1.0]], "cov_diag": [1.0, 2.0, 0.5]},
            {"loc": [[0.0, 1.0], [1.0, 1.0]], "cov_factor": [[1.0], [0.5]], "cov_diag": [1.0, 2.0]},
            bad={"cov_diag": [1.0, -1.0, 1.0]},
            outside=[float("nan"), 0.0, 0.0],
        ),
        case(
            dist.LogisticNormal,
            {"loc": [0.0, 1.0], "scale": [1.0, 0.5]},
            {"loc": [[0.0, 1.0], [2.0, -1.0]], "scale": 1.0},
            bad={"scale": [-1.0, 1.0]},
            outside=[0.5, 0.6, 0.7],
            skip={"moments": "torch has no formula"},
        ),
        case(
            dist.RelaxedOneHotCategorical,
            {"temperature": 0.7, "probs": WEIGHTS},
            {"temperature": 2.0, "logits": [WEIGHTS, [0.0, -3.0, 2.0]]},
            bad={"temperature": 0.0},
            outside=[0.5, 0.6, 0.7],
            skip={"moments": "torch has no formula"},
        ),
        case(
            dist.ExpRelaxedCategorical,
            {"temperature": 0.7, "probs": WEIGHTS},
            bad={"temperature": 0.0},
            outside=[float("nan"), 0.0, 0.0],
            skip={"moments": "torch has no formula"},
        ),
        case(
            dist.Independent,
            {"loc": [0.0, 1.0], "scale": [1.0, 2.0]},
            {"loc": [[0.0, 1.0], [2.0, 3.0]], "scale": [[1.0, 0.5], [2.0, 1.0]]},
            build=lambda loc, scale: dist.Independent(dist.Normal(loc, scale), 1),
            outside=[float("nan"), 0.0],
            skip=NO_SHAPES,
        ),
    ]


def matrices(case: Callable[..., Any]) -> list[Any]:
    return [
        case(
            dist.Wishart,
            {"df": 4.0, "covariance_matrix": COV},
            {"df": 3.5, "scale_tril": TRIL},
            {"df": 5.0, "precision_matrix": COV},
            scipy=wishart,
            bad={"df": 0.5, "covariance_matrix": [[1.0, 2.0], [2.0, 1.0]]},
            outside=[[1.0, 2.0], [2.0, 1.0]],
        ),
        case(
            dist.LKJCholesky,
            {"dim": 3, "concentration": 1.5},
            {"dim": 2, "concentration": [0.5, 4.0]},
            bad={"concentration": -1.0, "dim": 1},
            outside=[[1.0, 0.0], [0.5, 0.5]],
            skip={**NO_SHAPES, "moments": "no closed form"},
        ),
        case(
            dist.LKJ,
            {"dim": 3, "concentration": 1.5},
            {"dim": 2, "concentration": [0.5, 4.0]},
            bad={"concentration": -1.0, "dim": 1},
            outside=[[1.0, 2.0], [2.0, 1.0]],
            skip={**NO_SHAPES, "moments": "no closed form", "gradient": "entries are tied"},
        ),
    ]
