"""Every example in a short form: it runs, saves a picture, and comes out where the data say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
SHORT = {
    "autoregressive": ["--num-steps=40", "--num-samples=100"],
    "bayesian_network": ["--num-steps=120", "--num-samples=20"],
    "eight_schools": ["--num-steps=600", "--num-samples=1000"],
    "ensemble": ["--num-steps=60", "--num-samples=1000", "--years", "1897", "1900"],
    "gaussian_process": ["--num-steps=10", "--first-year=1991"],
    "mcmc": ["--num-samples=400"],
    "minibatch": ["--num-steps=400", "--num-samples=1000"],
    "receptive_fields": ["--num-voxels=3", "--num-steps=150", "--num-samples=100"],
    "random_walk": ["--num-steps=60", "--num-samples=500", "--until=1913"],
    "regression": ["--num-steps=400", "--num-samples=500"],
    "seed_autoregressive": ["--num-steps=40", "--num-tuned-steps=150", "--num-samples=2000"],
    "symbolic_vae": ["--num-steps=60"],
    "vae": ["--num-epochs=3"],
}

pytest.importorskip("matplotlib").use("Agg")


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["as it is", pytest.param("compiled", marks=pytest.mark.slow)])
def run(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs an example; in the slow run with every run of SVI compiled, and a warning where one can not be."""
    if request.param == "compiled":
        monkeypatch.setattr("brancher.infer.training.worth_compiling", lambda num_sites: 1)

    def run_short(name: str) -> Any:
        result = load(name).main([*SHORT[name], f"--output={tmp_path}"])
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        return result

    return run_short


def test_every_example_is_tested() -> None:
    assert sorted(SHORT) == NAMES


def smoothed(y: np.ndarray, b: float, driving: float, measurement: float) -> np.ndarray:
    """The exact posterior mean of the levels, given the three parameters."""
    n = len(y)
    step = np.eye(n) - b * np.eye(n, k=-1)
    noise = np.diag([1.0] + [driving**-2] * (n - 1))
    return np.linalg.solve(step.T @ noise @ step + np.eye(n) / measurement**2, y / measurement**2)


def test_autoregressive_finds_the_smoothed_level(run: Any) -> None:
    result = run("autoregressive")
    flow = pd.read_csv(EXAMPLES / "data" / "nile.csv", index_col="year")["flow"]
    b, driving, measurement = result.table["mean"]
    sd = flow.std()
    exact = (
        smoothed((flow - flow.mean()).to_numpy() / sd, b, driving / sd, measurement / sd) * sd + flow.mean()
    )
    # The flows' standard deviation is 169; the rest is the short training and 200 draws.
    assert np.abs(result.level["50%"] - exact).mean() < 25.0


def test_eight_schools_shrink(run: Any) -> None:
    table = run("eight_schools").table
    # Long runs of MCMC put mu at 4.4 and theta of school A at 6.2, with sd 3.3 and 5.5.
    assert table.loc["mu", "mean"] == pytest.approx(4.4, abs=1.0)
    assert table.loc["mu", "mean"] < table.loc["theta[A]", "mean"] < 10.0


def test_regression_finds_the_published_effects(run: Any) -> None:
    table = run("regression").table
    # Gelman and Hill (2007), section 12.6: floor -0.67 (se 0.07), uranium 0.72 (se 0.09).
    assert table.loc["floor_effect", "mean"] == pytest.approx(-0.67, abs=0.1)
    assert table.loc["slope", "mean"] == pytest.approx(0.72, abs=0.15)
    assert "level[St. Louis]" in table.index


def test_minibatches_have_the_width_of_all_rows(run: Any) -> None:
    fits = run("minibatch")
    exact, minibatch, tenth = (fits[key].std() for key in ("all rows", "minibatches", "a tenth, unscaled"))
    # 1000 draws give a standard deviation to 2 %; a tenth of the rows is wider by sqrt(10).
    assert (minibatch / exact).between(0.8, 1.25).all()
    assert (tenth / exact > 2.2).all()


def test_seed_autoregressive_comes_near_the_exact_posterior(run: Any) -> None:
    table = run("seed_autoregressive").table
    assert table.loc["exact", ["E[b]", "sd[b]", "ELBO"]].tolist() == pytest.approx(
        [0.8985, 0.0409, -37.006], abs=1e-3
    )
    assert table.loc["printed", "ELBO"] < table.loc["well optimised", "ELBO"] <= -37.006 + 0.1
    # 150 steps go most of the way; the rest is Monte Carlo error.
    assert abs(table.loc["well optimised", "E[b]"] - 0.8985) < 0.04
    assert table.loc["well optimised", "RMSE of E[x]"] < 0.1


def test_bayesian_network_knows_what_it_knows(run: Any) -> None:
    result = run("bayesian_network")
    assert result.accuracy > 0.8
    sure = result.table["confidence"] > result.table["confidence"].median()
    right = result.table["digit"] == result.table["predicted"]
    assert right[sure].mean() > right[~sure].mean()


def test_receptive_fields_are_found(run: Any) -> None:
    table = run("receptive_fields").table
    # Five posterior standard deviations, and 0.3 degrees for the short fit.
    assert ((table["mean"] - table["truth"]).abs() < 5 * table["sd"] + 0.3).all()


def test_symbolic_vae_learns(run: Any) -> None:
    result = run("symbolic_vae")
    assert result.losses.iloc[-10:].mean() < 0.7 * result.losses.iloc[:5].mean()
    assert np.isfinite(result.latent.to_numpy()).all()


def test_vae_learns(run: Any) -> None:
    result = run("vae")
    assert result.losses.iloc[-14:].mean() < 0.85 * result.losses.iloc[:14].mean()
    assert torch.isfinite(torch.tensor(result.latent.to_numpy())).all()


def test_gaussian_process_forecasts_the_season(run: Any) -> None:
    result = run("gaussian_process")
    mean = np.interp(result.held_back.index, result.forecast.index, result.forecast["mean"])
    errors = result.held_back - mean
    # The season swings by 6 ppm: a forecast without it has errors of 2 ppm within each year.
    assert errors.groupby(result.held_back.index.astype(int)).std().max() < 0.8
    assert errors.abs().max() < 4.0
    assert torch.get_default_dtype() == torch.float32


def test_ensemble_dates_the_drop(run: Any) -> None:
    """The models are conjugate: evidence and posterior are known."""
    result = run("ensemble")
    flow = pd.read_csv(EXAMPLES / "data" / "nile.csv", index_col="year")["flow"] / 100

    def log_evidence(values: pd.Series) -> float:
        """Of values with a common level from N(10, 2), each with noise of sd 1.3."""
        n, distance = len(values), values.to_numpy() - 10.0
        quadratic = (distance**2).sum() / 1.69 - (distance.sum() / 1.69) ** 2 / (n / 1.69 + 0.25)
        return float(-0.5 * (n * np.log(2 * np.pi * 1.69) + np.log1p(4.0 * n / 1.69) + quadratic))

    for year in (1897, 1898, 1899, 1900):
        exact = log_evidence(flow[flow.index < year]) + log_evidence(flow[flow.index >= year])
        assert result.table.loc[str(year), "log_evidence"] == pytest.approx(exact, abs=0.05)
    assert result.table.loc["none", "log_evidence"] == pytest.approx(log_evidence(flow), abs=0.05)
    assert result.draws["drop"].mean() == pytest.approx(2.4, abs=0.1)


def test_random_walk_bridges_its_gap(run: Any) -> None:
    result = run("random_walk")
    step, noise = result.table["mean"]
    seen = np.flatnonzero(result.measured.notna())
    years = np.arange(len(result.level))
    prior = 4.0 + step**2 * np.minimum(years[:, None], years[None, :])
    gain = prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)] + noise**2 * np.eye(len(seen)))
    exact = 10.0 + gain @ (result.measured.to_numpy()[seen] - 10.0)
    # The flows' standard deviation is 1.7; the rest is the short training.
    assert np.abs(result.level.mean(axis=1) - exact).mean() < 0.3
    assert result.level.index[-1] == 1913 + 15


@pytest.mark.slow
def test_mcmc_tells_the_bad_parametrisation_from_the_good_one(run: Any) -> None:
    result = run("mcmc")
    assert result.divergences["centred"] > 5 * result.divergences["non-centred"]
    # The k of one school lies near the limit of 0.7 in runs of this length.
    assert result.comparison.loc["non-centred", "bad_k"] <= 1
    # Reference of posteriordb: mu 4.4, tau 3.6; 1600 draws, of which 500 count at least.
    table = result.tables["non-centred"]
    assert abs(table.loc["mu", "mean"] - 4.4) < 5 * 3.3 / 500**0.5
    assert abs(table.loc["tau", "mean"] - 3.6) < 5 * 3.2 / 500**0.5
