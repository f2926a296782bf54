"""The level of the Nile as a random walk, with two decades of measurements taken away.

    x_t ~ Normal(x_{t-1}, step),    y_t ~ Normal(x_t, noise)

The hidden level is a Markov process; measurements are missing in two gaps and after the last year. The
posterior is a Markov process as well: between its ends the level of a gap is a bridge, and beyond the last
year the walk goes on by itself. It takes the two noises as independent of the level, so that their standard
deviations come out too small, that of the step above all.

    python examples/random_walk.py --num-steps 250
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from brancher import plots, set_rng_seed
from brancher.symbolic import (
    BF,
    DeterministicVariable,
    LatentTimeSeriesModel,
    LogNormalVariable,
    MarkovProcess,
    NormalVariable,
    ProbabilisticModel,
    Variable,
    inference,
)

HERE = Path(__file__).parent
GAPS = ((1891, 1910), (1931, 1950))


class Result(NamedTuple):
    """What the example returns; flows are in 1e10 m3 a year."""

    table: pd.DataFrame  # posterior of step and noise
    level: pd.DataFrame  # draws of the level: a row a year, a column a draw
    measured: pd.Series  # what the model saw


def posterior(first_year: int) -> list[ProbabilisticModel | Variable]:
    """A process of the same kind, which remembers and shifts differently in every year."""

    def walk(t: int, x: Variable) -> Variable:
        memory = DeterministicVariable(2.0, f"memory{t}", learnable=True)
        shift = DeterministicVariable(1.1, f"shift{t}", learnable=True)
        return NormalVariable(BF.sigmoid(memory) * x + shift, 0.3, f"x{t}", learnable=True)

    start = NormalVariable(9.5, 0.5, f"x{first_year}", learnable=True)
    return [
        MarkovProcess(start, walk, times=itertools.count(first_year)),
        LogNormalVariable(-1.0, 0.3, "step", learnable=True),
        LogNormalVariable(0.0, 0.3, "noise", learnable=True),
    ]


def fit(flow: pd.Series, num_steps: int, num_samples: int, num_years: int) -> Result:
    """Fit the walk to the years outside the gaps, and draw it in all years and some beyond."""
    first_year = int(flow.index[0])
    step, noise = LogNormalVariable(-1.0, 0.7, "step"), LogNormalVariable(0.0, 0.5, "noise")
    level = MarkovProcess(
        NormalVariable(10.0, 2.0, f"x{first_year}"),
        lambda t, x: NormalVariable(x, step, f"x{t}"),
        times=itertools.count(first_year),
    )
    measurements = LatentTimeSeriesModel(level, lambda t, x: NormalVariable(x, noise, f"y{t}"))
    measured = flow.copy()
    for first, last in GAPS:
        measured.loc[first:last] = np.nan
    measurements.observe(measured)
    measurements.set_posterior_model(posterior(first_year))
    for lr in (0.1, 0.02):
        fitted = inference.perform_inference(measurements, num_steps, number_samples=10, lr=lr)
    years = range(first_year, int(flow.index[-1]) + 1 + num_years)
    draws = level.get_posterior_timeseries_sample(num_samples, years, model=measurements, seed=0)
    return Result(fitted.summary().loc[["step", "noise"]], draws, measured)


def draw(flow: pd.Series, result: Result, path: Path) -> None:
    """Show the level's band over the years, with the measurements that were taken away as crosses."""
    figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    plots.plot_timeseries(result.level, result.measured, max_lines=5, label="level, median", ax=ax)
    ax.plot(flow[result.measured.isna()], "x", color="0.6", markersize=4, label="taken away")
    for first, last in GAPS:
        ax.axvspan(first - 0.5, last + 0.5, color="0.5", alpha=0.1, linewidth=0)
    ax.set(
        xlabel="year",
        ylabel="flow at Aswan (10$^{10}$ m$^3$ a year)",
        title="The Nile as a random walk, with gaps",
    )
    ax.legend(frameon=False, ncols=2)
    sns.despine(figure)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Fit, print the table, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=250)
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--num-years", type=int, default=15, help="years to forecast")
    parser.add_argument("--until", type=int, default=1970, help="last year to use")
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    flow = pd.read_csv(HERE / "data" / "nile.csv", index_col="year")["flow"] / 100
    flow = flow.loc[: args.until]
    result = fit(flow, args.num_steps, args.num_samples, args.num_years)
    print(result.table.round(2).to_string())
    args.output.mkdir(parents=True, exist_ok=True)
    draw(flow, result, args.output / "random_walk.png")
    print(f"picture: {args.output / 'random_walk.png'}")
    return result


if __name__ == "__main__":
    main()
