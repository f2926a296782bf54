"""Minibatches: a tenth of the rows a step, and yet the posterior of all the rows.

A plate that subsamples scales the log-density of its rows by size / subsample_size. The loss is then right
on average, and so is the width of the posterior. The example fits one regression three times: with all rows,
with subsampling, and with a tenth of the rows taken for all there are.

    python examples/minibatch.py --num-steps 1000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch.optim.lr_scheduler import ExponentialLR

import brancher.distributions as dist
from brancher import ParamStore, optim, plate, sample, set_rng_seed
from brancher.infer import SVI, Predictive, Trace_ELBO
from brancher.infer.autoguide import AutoMultivariateNormal

HERE = Path(__file__).parent
COLUMNS = ["intercept", "floor", "log uranium"]


def model(x: torch.Tensor, y: torch.Tensor, batch_size: int | None = None) -> None:
    """Draw a weight for every column of x, and the rows of y, or of a minibatch of it."""
    noise = sample("noise", dist.HalfNormal(1.0))
    with plate("column", coords=COLUMNS):
        weight = sample("weight", dist.Normal(0.0, 2.0))
    with plate("house", len(y), subsample_size=batch_size) as rows:
        sample("log_radon", dist.Normal(weight @ x[rows].T, noise), obs=y[rows])


def read_houses() -> tuple[torch.Tensor, torch.Tensor]:
    """Read centred columns, shape (N, 3), and log radon, shape (N,)."""
    houses = pd.read_csv(HERE / "data" / "radon.csv")
    columns = pd.DataFrame(
        {"intercept": 1.0, "floor": houses["floor"], "log uranium": np.log(houses["uranium"])}
    )
    columns[COLUMNS[1:]] -= columns[COLUMNS[1:]].mean()
    radon = houses["radon"].clip(lower=0.1)  # the detection limit, pCi/L
    return torch.tensor(columns.to_numpy(), dtype=torch.float32), torch.tensor(
        np.log(radon), dtype=torch.float32
    )


def fit(
    x: torch.Tensor, y: torch.Tensor, batch_size: int | None, num_steps: int, num_samples: int
) -> pd.DataFrame:
    """Return posterior draws of the weights, a column each."""
    guide = AutoMultivariateNormal(model)
    # Gradients shrink by orders of magnitude on the way, so Adam must forget the first ones soon.
    options = {"lr": 0.05, "betas": (0.9, 0.95)}
    adam = optim.Adam(options, schedule=partial(ExponentialLR, gamma=0.02 ** (1 / num_steps)))
    with ParamStore():
        SVI(model, guide, adam, Trace_ELBO(num_particles=4, vectorize_particles=True)).run(
            num_steps, x, y, batch_size
        )
        draws = Predictive(model, guide=guide, num_samples=num_samples, return_sites=["weight"])(x, y)
    return draws.to_frame().rename(columns=lambda label: label.removeprefix("weight[").removesuffix("]"))


def draw(fits: dict[str, pd.DataFrame], path: Path) -> None:
    """Show the three posteriors of each weight."""
    figure, axes = plt.subplots(1, len(COLUMNS), figsize=(11, 3.6), layout="constrained")
    styles = {"all rows": "-", "minibatches": "--", "a tenth, unscaled": ":"}
    units = {
        "intercept": "log pCi/L",
        "floor": "log pCi/L for a floor",
        "log uranium": "log pCi/L for one log ppm",
    }
    for axis, column in zip(axes, COLUMNS, strict=True):
        for (label, table), colour in zip(fits.items(), ("tab:blue", "tab:orange", "0.5"), strict=True):
            sns.kdeplot(
                table[column], ax=axis, color=colour, linestyle=styles[label], linewidth=2, label=label
            )
        axis.set(
            title="intercept" if column == "intercept" else f"effect of {column}",
            xlabel=units[column],
            ylabel="density",
        )
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    sns.despine(figure)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> dict[str, pd.DataFrame]:
    """Fit three times, print means and standard deviations, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=1000)
    parser.add_argument("--num-samples", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    x, y = read_houses()
    tenth = len(y) // 10
    chosen = torch.randperm(len(y))[:tenth]
    steps = (args.num_steps, args.num_samples)
    fits = {
        "all rows": fit(x, y, None, *steps),
        "minibatches": fit(x, y, tenth, *steps),
        "a tenth, unscaled": fit(x[chosen], y[chosen], None, *steps),
    }
    table = pd.concat({label: draws.agg(["mean", "std"]).T for label, draws in fits.items()}, axis=1)
    print(table.round(3).to_string())
    args.output.mkdir(parents=True, exist_ok=True)
    draw(fits, args.output / "minibatch.png")
    print(f"picture: {args.output / 'minibatch.png'}")
    return fits


if __name__ == "__main__":
    main()
