"""The level of the Nile as a noisy autoregression: a state-space model with a guide of the same structure.

The flow y_t of a year is a hidden level x_t, seen through measurement noise. From year to year the level
forgets a part of itself and is pushed by driving noise:

    x_t ~ Normal(b x_{t-1}, driving),    y_t ~ Normal(x_t, measurement),    0 < b < 1.

The guide is an autoregression as well, with a memory of its own and a shift for every year: it can follow the
data while neighbouring years stay correlated. It takes the coefficient and the noises as independent of the
levels, which gets their means right and makes them too sure: with the levels integrated out exactly, by a
Kalman filter, b is 0.77 with a standard deviation of 0.12, the driving noise 84 (28) and the measurement
noise 97 (25).

    python examples/autoregressive.py --num-steps 200
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch.optim.lr_scheduler import ExponentialLR

import brancher.distributions as dist
from brancher import optim, param, sample, set_rng_seed
from brancher.distributions import constraints
from brancher.infer import SVI, Predictive, Trace_ELBO, summary

HERE = Path(__file__).parent
PRIOR_B = dist.LogitNormal(0.5, 1.0)


class Result(NamedTuple):
    """What the example returns; flows are in 1e8 m3."""

    losses: pd.Series  # nats
    table: pd.DataFrame  # posterior of b and the two noises
    level: pd.DataFrame  # 5 %, 50 % and 95 % of the level, a row each year
    b: torch.Tensor  # posterior draws


def model(y: torch.Tensor) -> None:
    """Draw the coefficient, the two noises, a level for every year, and the flows around the levels."""
    b = sample("b", PRIOR_B)
    driving = sample("driving_noise", dist.LogNormal(-1.0, 1.0))
    measurement = sample("measurement_noise", dist.LogNormal(-1.0, 1.0))
    x = [sample("x_0", dist.Normal(0.0, 1.0))]
    for t in range(1, len(y)):
        x.append(sample(f"x_{t}", dist.Normal(b * x[-1], driving)))
    sample("y", dist.Normal(torch.stack(x, -1), measurement.unsqueeze(-1)).to_event(1), obs=y)


def guide(y: torch.Tensor) -> None:
    """Follow the series with an autoregression of the guide's own."""
    starts = {
        "b": (dist.LogitNormal, 0.5),
        "driving_noise": (dist.LogNormal, -1.0),
        "measurement_noise": (dist.LogNormal, -1.0),
    }
    for name, (family, start) in starts.items():
        loc = param(f"{name}_loc", torch.tensor(start))
        sample(name, family(loc, param(f"{name}_scale", torch.tensor(0.3), constraint=constraints.positive)))
    memory = param("memory", torch.tensor(0.5), constraint=constraints.unit_interval)
    shift = param("shift", torch.zeros(len(y)))
    spread = param("spread", torch.full((len(y),), 0.4), constraint=constraints.positive)
    x = sample("x_0", dist.Normal(shift[0], spread[0]))
    for t in range(1, len(y)):
        x = sample(f"x_{t}", dist.Normal(memory * x + shift[t], spread[t]))


def fit(flow: pd.Series, num_steps: int, num_samples: int) -> Result:
    """Fit the guide to the standardised series; describe the posterior in the units of the series."""
    mean, sd = float(flow.mean()), float(flow.std())
    y = torch.tensor(((flow - mean) / sd).to_numpy(), dtype=torch.float32)
    adam = optim.Adam({"lr": 0.1}, schedule=partial(ExponentialLR, gamma=0.05 ** (1 / num_steps)))
    svi = SVI(model, guide, adam, Trace_ELBO(num_particles=10, vectorize_particles=True))
    losses = svi.run(num_steps, y)

    draws = Predictive(model, guide=guide, num_samples=num_samples)(y)
    noises = {f"{name} (1e8 m3)": draws[name] * sd for name in ("driving_noise", "measurement_noise")}
    x = torch.stack([draws[f"x_{t}"] for t in range(len(y))], -1) * sd + mean
    level = pd.DataFrame(np.quantile(x, [0.05, 0.5, 0.95], axis=0).T, flow.index, ["5%", "50%", "95%"])
    return Result(losses, summary({"b": draws["b"], **noises}), level, draws["b"])


def draw(flow: pd.Series, result: Result, path: Path) -> None:
    """Show the level through the flows, and what was learned about the coefficient."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=[2.4, 1], layout="constrained")
    level = result.level
    left.fill_between(
        level.index,
        level["5%"],
        level["95%"],
        color="tab:blue",
        alpha=0.25,
        lw=0,
        label="level, 90 % interval",
    )
    left.plot(level["50%"], color="tab:blue", label="level, median")
    left.plot(flow, ".", color="0.3", label="measured flow")
    left.set(
        xlabel="year",
        ylabel="flow at Aswan (10$^8$ m$^3$ a year)",
        title="The level behind the flow of the Nile",
    )
    left.legend(frameon=False, loc="upper right")

    sns.kdeplot(x=result.b.numpy(), fill=True, color="tab:blue", ax=right, label="posterior")
    grid = torch.linspace(0.005, 0.995, 199)
    right.plot(grid, PRIOR_B.log_prob(grid).exp(), "--", color="0.3", label="prior")
    right.set(xlim=(0, 1), xlabel="coefficient b", ylabel="density", title="How much a year remembers")
    right.legend(frameon=False, loc="upper left")
    sns.despine(figure)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Fit, print the table, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=200)
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    flow = pd.read_csv(HERE / "data" / "nile.csv", index_col="year")["flow"]
    result = fit(flow, args.num_steps, args.num_samples)
    print(result.table.round(2).to_string())
    args.output.mkdir(parents=True, exist_ok=True)
    draw(flow, result, args.output / "autoregressive.png")
    print(f"picture: {args.output / 'autoregressive.png'}")
    return result


if __name__ == "__main__":
    main()
