"""Radon in the houses of Minnesota: a regression whose intercept differs from county to county.

Most counties have a handful of measurements. The model lets each county's level vary around a line in the
uranium of its soil, so that counties with little data borrow from the others:

    log radon_i ~ Normal(level_county(i) + floor_effect * floor_i, noise),
    level_j ~ Normal(base + slope * log uranium_j, spread).

    python examples/regression.py --num-steps 1000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import brancher.distributions as dist
from brancher import optim, plate, sample, set_rng_seed
from brancher.infer import SVI, Predictive, Trace_ELBO, summary
from brancher.infer.autoguide import AutoNormal

HERE = Path(__file__).parent
DETECTION_LIMIT = 0.1  # pCi/L; three houses are recorded as 0


class Result(NamedTuple):
    """What the example returns: losses in nats, a posterior table with the counties' names, the counties."""

    losses: pd.Series
    table: pd.DataFrame
    counties: pd.DataFrame


def model(
    counties: pd.Index,
    log_uranium: torch.Tensor,
    county: torch.Tensor,
    floor: torch.Tensor,
    log_radon: torch.Tensor | None = None,
) -> None:
    """Draw a line, the counties' levels around it, and the houses around their county."""
    base = sample("base", dist.Normal(0.0, 2.0))
    slope = sample("slope", dist.Normal(0.0, 2.0))
    floor_effect = sample("floor_effect", dist.Normal(0.0, 2.0))
    spread = sample("spread", dist.HalfNormal(1.0))
    noise = sample("noise", dist.HalfNormal(1.0))
    with plate("county", coords=counties):
        level = sample("level", dist.Normal(base + slope * log_uranium, spread))
    with plate("house", len(county)):
        sample("log_radon", dist.Normal(level[..., county] + floor_effect * floor, noise), obs=log_radon)


def fit(houses: pd.DataFrame, num_steps: int, num_samples: int) -> Result:
    """Fit independent normals to the unconstrained posterior."""
    code, names = pd.factorize(houses["county"], sort=True)
    counties = houses.groupby("county").agg(uranium=("uranium", "first"), houses=("radon", "size")).loc[names]
    dtype = torch.get_default_dtype()
    log_uranium = torch.tensor(np.log(counties["uranium"].to_numpy()), dtype=dtype)
    inputs = (names, log_uranium, torch.tensor(code), torch.tensor(houses["floor"].to_numpy(), dtype=dtype))
    log_radon = torch.tensor(np.log(houses["radon"].clip(lower=DETECTION_LIMIT).to_numpy()), dtype=dtype)

    guide = AutoNormal(model)
    svi = SVI(model, guide, optim.Adam({"lr": 0.02}), Trace_ELBO())
    losses = svi.run(num_steps, *inputs, log_radon)
    latent = ["base", "slope", "floor_effect", "spread", "noise", "level"]
    draws = Predictive(model, guide=guide, num_samples=num_samples, return_sites=latent)(*inputs)
    return Result(losses, summary(draws), counties)


def draw(result: Result, path: Path) -> None:
    """Show the counties' levels along their uranium."""
    table, counties = result.table, result.counties
    levels = table.loc[[f"level[{name}]" for name in counties.index]]
    x = np.log(counties["uranium"].to_numpy())
    order = np.linspace(x.min(), x.max(), 50)
    middle = levels["median"].to_numpy()
    spread = [middle - levels["hpdi_5%"], levels["hpdi_95%"] - middle]
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    axes.errorbar(
        x, middle, yerr=spread, fmt="none", ecolor="0.75", elinewidth=1, zorder=1, label="90 % interval"
    )
    dots = axes.scatter(x, middle, c=counties["houses"], norm="log", cmap="viridis", s=28, zorder=2)
    axes.plot(
        order,
        table.loc["base", "mean"] + table.loc["slope", "mean"] * order,
        color="tab:red",
        label="all counties",
    )
    figure.colorbar(dots, label="houses measured", ticks=[1, 3, 10, 30, 100], format="%d")
    axes.set(xlabel="log uranium in the soil (log ppm)", ylabel="log radon in the basement (log pCi/L)")
    axes.set_title("Radon in the 85 counties of Minnesota", loc="left")
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Fit, print the head of the table, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=1000)
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    result = fit(pd.read_csv(HERE / "data" / "radon.csv"), args.num_steps, args.num_samples)
    print(result.table.round(2).to_string(max_rows=14))
    args.output.mkdir(parents=True, exist_ok=True)
    draw(result, args.output / "regression.png")
    print(f"picture: {args.output / 'regression.png'}")
    return result


if __name__ == "__main__":
    main()
