"""Eight posteriors of posteriordb: the joint density against scipy, the draws against the reference."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from brancher.handlers import condition, trace
from brancher.infer.diagnostics import mcse_mean
from brancher.infer.mcmc import MCMC, NUTS
from brancher.staging import is_available

stats = pytest.importorskip("scipy.stats")
special = pytest.importorskip("scipy.special")

ROOT = Path(__file__).parents[3]
_spec = importlib.util.spec_from_file_location("nuts_models", ROOT / "benchmarks" / "nuts_models.py")
nuts_models = importlib.util.module_from_spec(_spec)
sys.modules["nuts_models"] = nuts_models
_spec.loader.exec_module(nuts_models)
NAMES = list(nuts_models.posteriors())


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _file(name: str, kind: str):
    (folder,) = nuts_models.DATA.glob(f"*-{name}")
    return json.loads((folder / f"{kind}.json").read_text())


def _sites(name: str, draw: dict[str, float]) -> dict[str, np.ndarray]:
    """A reference draw by site: ``beta[1], beta[2]`` become one vector."""
    found: dict[str, list[float]] = {}
    for key, value in draw.items():
        found.setdefault(key.partition("[")[0], []).append(value)
    sites = {key: np.array(v if len(v) > 1 else v[0]) for key, v in found.items()}
    if name == "eight_schools_noncentered":
        sites["theta_trans"] = (sites.pop("theta") - sites["mu"]) / sites["tau"]
    return sites


def _normal(x, loc, scale):
    return stats.norm.logpdf(x, loc, scale).sum()


def _ark(d, y, order):
    y = y.numpy()
    prior = (
        _normal(d["alpha"], 0, 10) + _normal(d["beta"], 0, 10) + stats.halfcauchy.logpdf(d["sigma"], 0, 2.5)
    )
    means = [
        d["alpha"] + sum(d["beta"][k] * y[t - 1 - k] for k in range(order)) for t in range(order, len(y))
    ]
    return prior + _normal(y[order:], means, d["sigma"])


def _regression(d, features, y, proper):
    prior = stats.halfcauchy.logpdf(d["sigma"], 0, 2.5) if proper else 0.0
    return prior + _normal(y.numpy(), features.numpy() @ d["beta"], d["sigma"])


def _schools(d, y, scale):
    prior = _normal(d["mu"], 0, 5) + stats.halfcauchy.logpdf(d["tau"], 0, 5) + _normal(d["theta_trans"], 0, 1)
    return prior + _normal(y.numpy(), d["mu"] + d["tau"] * d["theta_trans"], scale.numpy())


def _garch(d, y, sigma1):
    y, variance = y.numpy(), [sigma1**2]
    for t in range(1, len(y)):
        variance.append(d["alpha0"] + d["alpha1"] * (y[t - 1] - d["mu"]) ** 2 + d["beta1"] * variance[-1])
    return _normal(y, d["mu"], np.sqrt(variance))


def _gp(d, x, y):
    x = x.numpy()
    cov = d["alpha"] ** 2 * np.exp(-0.5 * ((x[:, None] - x) / d["rho"]) ** 2) + d["sigma"] * np.eye(len(x))
    prior = stats.gamma.logpdf(d["rho"], 25, scale=1 / 4) + stats.halfnorm.logpdf(d["alpha"], 0, 2)
    prior = prior + stats.halfnorm.logpdf(d["sigma"], 0, 1)
    return prior + stats.multivariate_normal.logpdf(y.numpy(), np.zeros(len(x)), cov)


def _hmm(d, y):
    y = y.numpy()
    step = np.log(np.stack([d["theta1"], d["theta2"]]))
    state = stats.norm.logpdf(y[0], d["mu"], 1)
    for t in range(1, len(y)):
        state = special.logsumexp(state[:, None] + step, axis=0) + stats.norm.logpdf(y[t], d["mu"], 1)
    return _normal(d["mu"], [3, 10], 1) + special.logsumexp(state)


def _mixture(d, y):
    prior = stats.beta.logpdf(d["theta"], 5, 5) + _normal(d["mu"], 0, 2)
    prior += stats.halfnorm.logpdf(d["sigma"], 0, 2).sum()
    each = stats.norm.logpdf(y.numpy()[:, None], d["mu"], d["sigma"]) + np.log([d["theta"], 1 - d["theta"]])
    return prior + special.logsumexp(each, axis=1).sum()


FORMULAS = {
    "arK": _ark,
    "logearn_interaction_z": _regression,
    "kidscore_interaction": _regression,
    "eight_schools_noncentered": _schools,
    "garch11": _garch,
    "gp_regr": _gp,
    "hmm_example": _hmm,
    "low_dim_gauss_mix": _mixture,
}


@pytest.mark.parametrize("name", NAMES)
def test_log_joint_at_the_reference_draws_is_the_formula(name):
    model, args = nuts_models.posteriors()[name]
    for draw in _file(name, "reference_draws_thin50")[::10]:
        sites = _sites(name, draw)
        values = {key: torch.as_tensor(value) for key, value in sites.items()}
        ours = float(trace(condition(model, data=values)).get_trace(*args).log_prob_sum())
        # 1e-12 relative, in float64: the two sums run in another order.
        assert ours == pytest.approx(float(FORMULAS[name](sites, *args)), rel=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(not is_available(), reason="eager sampling of these takes minutes")
@pytest.mark.filterwarnings("ignore:MCMC")
@pytest.mark.parametrize("name", NAMES)
def test_nuts_agrees_with_the_reference(name):
    # 2 chains x 1000. Means within max(0.15 sd, 4 MCSE): a false alarm below 6e-5 a parameter; the ratio of
    # sds in [0.85, 1.18] is 5 standard errors at the 500 effective draws that the slowest has.
    model, args = nuts_models.posteriors()[name]
    mcmc = MCMC(NUTS(model), 1000, 1000, num_chains=2, seed=1, progress=False)
    mcmc.run(*args)
    draws = dict(mcmc.get_samples(group_by_chain=True))
    if name == "eight_schools_noncentered":
        draws["theta"] = draws["mu"][..., None] + draws["tau"][..., None] * draws["theta_trans"]
    for key, expected in _file(name, "reference_summary")["parameters"].items():
        site, _, index = key.partition("[")
        entry = draws[site][..., int(index[:-1]) - 1] if index else draws[site]
        tolerance = max(0.15 * expected["sd"], 4 * float(mcse_mean(entry)))
        assert float(entry.mean()) == pytest.approx(expected["mean"], abs=tolerance), key
        assert 0.85 < float(entry.flatten().std()) / expected["sd"] < 1.18, key
