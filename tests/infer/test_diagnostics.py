"""Diagnostics against ArviZ 0.x, on draws that are correlated, tied, constant, odd or heavy-tailed."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from brancher.errors import InferenceError, InferenceTypeError
from brancher.infer import diagnostics as dx

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    az = pytest.importorskip("arviz")


def _correlated(chains: int, draws: int, rho: float, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(chains, draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = noise.clone()
    for t in range(1, draws):
        x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * noise[:, t]
    return x


DRAWS = {
    "independent": _correlated(4, 500, 0.0),
    "slow": _correlated(4, 500, 0.95),
    "antithetic": _correlated(3, 401, -0.7),
    "two_chains_short": _correlated(2, 11, 0.3),
    "shifted": _correlated(4, 200, 0.5) + torch.arange(4.0)[:, None],
    "heavy": _correlated(4, 300, 0.4).sinh().pow(3),
    "ties": _correlated(4, 300, 0.6).round(),
}
MATCHES = {
    "r_hat": (dx.r_hat, lambda x: az.rhat(x)),
    "split_gelman_rubin": (dx.split_gelman_rubin, lambda x: az.rhat(x, method="split")),
    "gelman_rubin": (dx.gelman_rubin, lambda x: az.rhat(x, method="identity")),
    "ess_bulk": (dx.ess_bulk, lambda x: az.ess(x)),
    "ess_tail": (dx.ess_tail, lambda x: az.ess(x, method="tail")),
    "ess_mean": (dx.ess_mean, lambda x: az.ess(x, method="mean")),
    "effective_sample_size": (dx.effective_sample_size, lambda x: az.ess(x, method="identity")),
    "ess_quantile": (lambda x: dx.ess_quantile(x, 0.3), lambda x: az.ess(x, method="quantile", prob=0.3)),
    "mcse_mean": (dx.mcse_mean, lambda x: az.mcse(x)),
    "mcse_sd": (dx.mcse_sd, lambda x: az.mcse(x, method="sd")),
    "mcse_quantile": (lambda x: dx.mcse_quantile(x, 0.1), lambda x: az.mcse(x, method="quantile", prob=0.1)),
}


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("name", MATCHES)
def test_diagnostic_agrees_with_arviz(name, draws):
    ours, theirs = MATCHES[name]
    # 1e-6: both are float64, the sums run in another order.
    assert float(ours(DRAWS[draws])) == pytest.approx(float(theirs(DRAWS[draws].numpy())), rel=1e-6)


@pytest.mark.parametrize("name", MATCHES)
def test_diagnostic_treats_each_event_entry_alone(name):
    ours = MATCHES[name][0]
    table = torch.stack([DRAWS["independent"], DRAWS["slow"]], dim=-1).reshape(4, 500, 1, 2)
    assert ours(table).shape == (1, 2)
    assert torch.allclose(ours(table)[0, 1], ours(DRAWS["slow"]), rtol=1e-12)


def test_ess_of_constant_draws_is_their_number():
    assert float(dx.ess_bulk(torch.ones(2, 50))) == 100


def test_ess_with_nan_is_nan():
    x = DRAWS["independent"].clone()
    x[0, 0] = math.nan
    assert math.isnan(dx.ess_bulk(x)) and math.isnan(dx.ess_tail(x)) and math.isnan(dx.r_hat(x))


def test_effective_sample_size_takes_chain_and_sample_dims():
    x = DRAWS["slow"]
    turned = dx.effective_sample_size(x.T, chain_dim=1, sample_dim=0)
    assert float(turned) == float(dx.effective_sample_size(x))


def test_autocovariance_is_the_plain_sum():
    x = DRAWS["slow"][0, :50]
    c = x - x.mean()
    plain = torch.stack([(c[: 50 - t] * c[t:]).sum() / 50 for t in range(50)])
    assert torch.allclose(dx.autocovariance(x), plain, atol=1e-12)


@pytest.mark.parametrize("prob", [0.5, 0.9])
def test_hpdi_agrees_with_arviz(prob):
    x = DRAWS["heavy"].reshape(-1)
    assert torch.allclose(dx.hpdi(x, prob), torch.from_numpy(az.hdi(x.numpy(), prob)), atol=1e-12)


def test_pi_agrees_with_numpy():
    x = DRAWS["heavy"].reshape(-1, 2)
    assert torch.allclose(dx.pi(x, 0.8), torch.from_numpy(np.quantile(x.numpy(), [0.1, 0.9], axis=0)))


@pytest.mark.parametrize("kind", ["light", "heavy", "ties", "few", "equal"])
@pytest.mark.filterwarnings("ignore")
def test_psis_agrees_with_arviz(kind):
    x = _correlated(1, 1000, 0.0, seed=3)[0]
    weights = {
        "light": 0.3 * x, "heavy": x.abs() ** 1.5 * 2, "ties": x.round(), "few": x[:12], "equal": x * 0,
    }[kind]  # fmt: skip
    smoothed, k = dx.psis(weights)
    theirs, their_k = az.psislw(weights.numpy().copy())
    # Sorted: among equal weights the two may hand out the smoothed values in another order.
    assert np.allclose(np.sort(smoothed.numpy()), np.sort(theirs), atol=1e-9)
    assert float(k) == pytest.approx(float(their_k), rel=1e-9)


def test_psis_smooths_each_column_alone():
    x = _correlated(3, 600, 0.0).T
    smoothed, k = dx.psis(x)
    alone = [dx.psis(x[:, i]) for i in range(3)]
    assert torch.allclose(smoothed, torch.stack([a[0] for a in alone], -1))
    assert torch.allclose(k, torch.stack([a[1] for a in alone]))


def test_fit_generalized_pareto_recovers_the_shape():
    # 20,000 exact quantiles of GPD(k=0.4, sigma=2): only the prior's pull (10 of 20,010) and the grid remain.
    p = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    k, sigma = dx.fit_generalized_pareto(2 / 0.4 * torch.expm1(-0.4 * torch.log1p(-p)))
    assert float(k) == pytest.approx(0.4, abs=0.01) and float(sigma) == pytest.approx(2, abs=0.02)


@pytest.fixture(scope="module")
def pointwise():
    rng = np.random.default_rng(0)
    mu = rng.normal(0, 0.3, size=(4, 500, 1))
    return -0.5 * (rng.normal(size=20) - mu) ** 2 - 0.5 * np.log(2 * np.pi)


@pytest.mark.filterwarnings("ignore")
def test_loo_and_waic_agree_with_arviz(pointwise):
    data = az.from_dict(posterior={"mu": np.zeros((4, 500))}, log_likelihood={"y": pointwise})
    flat = torch.from_numpy(pointwise.reshape(2000, 20))
    theirs = az.loo(data, reff=1.0)
    ours = dx.loo(flat)
    assert float(ours.elpd) == pytest.approx(theirs.elpd_loo, rel=1e-9)
    assert float(ours.se) == pytest.approx(theirs.se, rel=1e-9)
    assert float(ours.p_loo) == pytest.approx(theirs.p_loo, rel=1e-7)
    value, p = dx.waic(flat)
    waic = az.waic(data)
    # ArviZ divides the variance by N, the paper's eq. 12 (and this) by N - 1.
    assert float(p) == pytest.approx(waic.p_waic * 2000 / 1999, rel=1e-9)
    assert float(value) == pytest.approx(-2 * (waic.elpd_waic + waic.p_waic - float(p)), rel=1e-9)


def test_bfmi_agrees_with_arviz():
    energy = DRAWS["slow"]
    assert np.allclose(dx.bfmi(energy).numpy(), az.bfmi(energy.numpy()))


def test_draws_of_one_dimension_error():
    with pytest.raises(InferenceError, match="expected shape \\(chains, draws"):
        dx.r_hat(torch.randn(10))


def test_draws_as_list_error():
    with pytest.raises(InferenceTypeError, match="got list"):
        dx.ess_bulk([1.0, 2.0])


def test_psis_nan_weight_error():
    with pytest.raises(InferenceError, match="got 1 NaN"):
        dx.psis(torch.tensor([0.0, math.nan]))


def test_hpdi_prob_error():
    with pytest.raises(InferenceError, match=r"got 1\.5"):
        dx.hpdi(torch.randn(10), 1.5)
