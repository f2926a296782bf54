"""Carbon dioxide at Mauna Loa as a Gaussian process: a trend, a season, and what is between them.

A sum of covariance functions says what the months have to do with each other: a very smooth trend, a season
that repeats itself every year and changes slowly, a wobble like that of a random walk, and noise. Their
settings are learned from all but the last years, which are then forecast. In 1998 the carbon dioxide rose
more than in any year before, which the forecast could not know.

    python examples/gaussian_process.py --num-steps 100
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from brancher import plots, set_rng_seed
from brancher.symbolic import (
    BF,
    DeterministicVariable,
    GaussianProcess,
    ProbabilisticModel,
    RootVariable,
    inference,
)
from brancher.symbolic.processes import (
    ConstantMean,
    Covariance,
    ExponentialCovariance,
    PeriodicCovariance,
    SquaredExponentialCovariance,
    WhiteNoiseCovariance,
)

HERE = Path(__file__).parent


class Result(NamedTuple):
    """What the example returns; values are in ppm."""

    losses: pd.Series  # nats
    settings: pd.Series
    forecast: pd.DataFrame  # mean and band by time in years
    held_back: pd.Series  # what was measured then


def read(first_year: int) -> pd.Series:
    """Monthly means by time in years."""
    table = pd.read_csv(HERE / "data" / "co2.csv")
    table = table[table["year"] >= first_year]
    return pd.Series(table["co2"].to_numpy(), index=table["year"] + (table["month"] - 0.5) / 12, name="co2")


def variance(sd: float, name: str) -> object:
    """The square of a learned standard deviation, in ppm."""
    return BF.exp(2.0 * DeterministicVariable(float(np.log(sd)), f"log_sd_{name}", learnable=True))


def covariance() -> Covariance:
    """What two months have in common."""
    trend = variance(30.0, "trend") * SquaredExponentialCovariance(40.0, learnable=True, name="trend")
    shape = PeriodicCovariance(1.0, scale=1.3) * SquaredExponentialCovariance(
        80.0, learnable=True, name="season"
    )
    wobble = variance(1.5, "wobble") * ExponentialCovariance(10.0, learnable=True, name="wobble")
    noise = WhiteNoiseCovariance(0.05, learnable=True, name="noise")
    return trend + variance(3.0, "season") * shape + wobble + noise


def fit(series: pd.Series, last_year: int, num_steps: int) -> Result:
    """Learn the settings from the months before ``last_year``, and forecast the rest."""
    known, held_back = series[series.index < last_year], series[series.index >= last_year]
    process = GaussianProcess(ConstantMean(float(known.mean()), learnable=True), covariance(), "co2")
    months = process(RootVariable(known.index.to_numpy(), name="year"))
    months.observe(known)
    model = ProbabilisticModel([months])
    losses = []
    for lr in (0.05, 0.01):
        inference.perform_inference(
            model, num_steps, lr=lr, inference_method=inference.MaximumLikelihood, compile=False
        )
        losses.append(model.diagnostics["loss curve"])
    settings = pd.Series({name: float(value) for name, value in model.parameters.items()})
    at = np.arange(series.index[0], series.index[-1] + 1 / 12, 1 / 12)
    forecast = process.predict(at, given=months, with_noise=True)
    return Result(pd.concat(losses, ignore_index=True), settings, forecast, held_back)


def coverage(result: Result) -> float:
    """Share of the months held back that lie within the 90 % band."""
    at = result.held_back.index
    low, high = (np.interp(at, result.forecast.index, result.forecast[end]) for end in ("5%", "95%"))
    return float(((result.held_back > low) & (result.held_back < high)).mean())


def draw(series: pd.Series, result: Result, last_year: int, path: Path) -> None:
    """Show the forecast beside what came, and its errors."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1.6, 1], layout="constrained")
    shown = result.forecast.loc[last_year - 5 :]
    plots.plot_timeseries(shown, series.loc[last_year - 5 :], label="mean", ax=left)
    left.axvline(last_year, color="0.5", linestyle="--", linewidth=1)
    left.set(
        xlabel="year",
        ylabel="CO$_2$ (ppm)",
        title="Carbon dioxide at Mauna Loa, forecast from the dashed line",
    )
    mean = np.interp(result.held_back.index, result.forecast.index, result.forecast["mean"])
    sd = np.interp(result.held_back.index, result.forecast.index, result.forecast["sd"])
    right.axhspan(-1.645, 1.645, color="tab:blue", alpha=0.2, linewidth=0, label="90 %")
    right.plot(result.held_back.index, (result.held_back - mean) / sd, ".", color="0.2")
    right.set(xlabel="year", ylabel="error in standard deviations", title="Errors of the forecast")
    right.legend(frameon=False)
    sns.despine(figure)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Learn, forecast, print the settings, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=100)
    parser.add_argument("--first-year", type=int, default=1980)
    parser.add_argument("--last-year", type=int, default=1998)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # covariance matrices need the digits
    try:
        series = read(args.first_year)
        result = fit(series, args.last_year, args.num_steps)
    finally:
        torch.set_default_dtype(before)
    print(result.settings.round(3).to_string())
    print(
        f"{100 * coverage(result):.0f} % of the {len(result.held_back)} months held back lie in the 90 % band"
    )
    args.output.mkdir(parents=True, exist_ok=True)
    draw(series, result, args.last_year, args.output / "gaussian_process.png")
    print(f"picture: {args.output / 'gaussian_process.png'}")
    return result


if __name__ == "__main__":
    main()
