"""When did the flow of the Nile drop? An ensemble of models, one for each year in which it may have.

Each model has one level of the flow before its year and one after it; a last model has one level throughout.
Every model is fitted, and weighed by the evidence that the data give it: the weights are the posterior
probabilities of the years, and the ensemble's draws average over them.

    python examples/ensemble.py --num-steps 100
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from brancher import plots, set_rng_seed
from brancher.symbolic import DeterministicVariable, Ensemble, NormalVariable, ProbabilisticModel

HERE = Path(__file__).parent
# Known well enough for this question; flows are in 1e10 m3 a year here.
LEVEL, SPREAD, YEARLY = 10.0, 2.0, 1.3


class Result(NamedTuple):
    """What the example returns; flows are in 1e10 m3 a year."""

    table: pd.DataFrame  # log evidence and probability of each year
    draws: pd.DataFrame  # of the ensemble's posterior


def change_in(year: int | None, flow: pd.Series) -> ProbabilisticModel:
    """A level before a year and another from it on; one level for None."""
    before = NormalVariable(LEVEL, SPREAD, "before")
    if year is None:
        after: NormalVariable | DeterministicVariable = DeterministicVariable(before, "after")
    else:
        after = NormalVariable(LEVEL, SPREAD, "after")
    start = flow.index[0] if year is None else year
    parts = []
    for level, values in ((before, flow[flow.index < start]), (after, flow[flow.index >= start])):
        if len(values):
            part = NormalVariable(level, YEARLY, f"flow_{level.name}")
            part.observe(values)
            parts.append(part)
    drop = DeterministicVariable(before - after, "drop")
    model = ProbabilisticModel([*parts, drop])
    latents = ["before"] if year is None else ["before", "after"]
    model.set_posterior_model([NormalVariable(LEVEL, 0.5, name, learnable=True) for name in latents])
    return model


def fit(flow: pd.Series, years: Sequence[int], num_steps: int, num_samples: int) -> Result:
    """Fit one model a year, weigh them, and draw from all."""
    models = {str(year): change_in(year, flow) for year in years}
    ensemble = Ensemble({**models, "none": change_in(None, flow)})
    for lr in (0.1, 0.01):
        ensemble.perform_inference(num_steps, number_samples=10, lr=lr, progress=False, compile=False)
    table = ensemble.weigh_by_evidence(num_samples, seed=0)
    return Result(table, ensemble.get_posterior_sample(num_samples, seed=0))


def draw(flow: pd.Series, result: Result, path: Path) -> None:
    """Show the probabilities of the years beneath the flow, and the drop."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1.6, 1], layout="constrained")
    left.plot(flow, ".-", color="0.5", linewidth=0.6)
    left.set(
        xlabel="year",
        ylabel="flow at Aswan (10$^{10}$ m$^3$ a year)",
        title="The flow of the Nile, and when it dropped",
    )
    years = result.table.drop("none")
    bars = left.twinx()
    bars.bar(years.index.astype(int), years["weight"], color="tab:blue", alpha=0.7)
    bars.set(ylabel="probability of the year", ylim=(0, 1))
    likely = result.draws[result.draws["model"].isin(result.table["weight"].nlargest(4).index)]
    plots.ensemble_histogram(likely, "drop", ax=right)
    right.set(xlabel="drop (10$^{10}$ m$^3$ a year)", title="How much, by the four likeliest models")
    sns.despine(ax=left)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Fit, print the likeliest years, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=100)
    parser.add_argument("--num-samples", type=int, default=4000)
    parser.add_argument(
        "--years", type=int, nargs=2, default=(1890, 1906), help="first and last year of a change"
    )
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    flow = pd.read_csv(HERE / "data" / "nile.csv", index_col="year")["flow"] / 100
    result = fit(flow, range(args.years[0], args.years[1] + 1), args.num_steps, args.num_samples)
    print(result.table.sort_values("weight", ascending=False).head(5).round(3).to_string())
    drop = result.draws["drop"]
    print(f"drop: {drop.mean():.2f} +- {drop.std():.2f} (1e10 m3 a year)")
    args.output.mkdir(parents=True, exist_ok=True)
    draw(flow, result, args.output / "ensemble.png")
    print(f"picture: {args.output / 'ensemble.png'}")
    return result


if __name__ == "__main__":
    main()
