"""Eight schools: how much do parallel experiments that each say little say together?

Every school measured the effect of coaching on its own. The hierarchical model pulls the noisy estimates
towards each other, as far as the data allow:

    effect_j ~ Normal(theta_j, standard_error_j),    theta_j = mu + tau eta_j,    eta_j ~ Normal(0, 1).

    python examples/eight_schools.py --num-steps 600
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch.optim.lr_scheduler import ExponentialLR

import brancher.distributions as dist
from brancher import deterministic, optim, plate, sample, set_rng_seed
from brancher.infer import SVI, Predictive, Trace_ELBO, summary
from brancher.infer.autoguide import AutoMultivariateNormal

HERE = Path(__file__).parent


class Result(NamedTuple):
    """What the example returns: losses in nats, and the posterior in points of the test."""

    losses: pd.Series
    table: pd.DataFrame


def model(schools: pd.Index, standard_error: torch.Tensor, effect: torch.Tensor | None = None) -> None:
    """Draw the common mean and spread, then every school's true effect and its estimate."""
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", coords=schools):
        eta = sample("eta", dist.Normal(0.0, 1.0))
        theta = deterministic("theta", mu + tau * eta, event_dim=0)
        sample("effect", dist.Normal(theta, standard_error), obs=effect)


def fit(data: pd.DataFrame, num_steps: int, num_samples: int) -> Result:
    """Fit a normal distribution with full covariance to the unconstrained posterior."""
    effect, standard_error = (torch.tensor(data[name].to_numpy(), dtype=torch.float32) for name in data)
    guide = AutoMultivariateNormal(model)
    adam = optim.Adam({"lr": 0.05}, schedule=partial(ExponentialLR, gamma=0.05 ** (1 / num_steps)))
    svi = SVI(model, guide, adam, Trace_ELBO(num_particles=8, vectorize_particles=True))
    losses = svi.run(num_steps, data.index, standard_error, effect)
    predictive = Predictive(model, guide=guide, num_samples=num_samples, return_sites=["mu", "tau", "theta"])
    return Result(losses, summary(predictive(data.index, standard_error)))


def draw(data: pd.DataFrame, result: Result, path: Path) -> None:
    """Show each school's own estimate beside what the model makes of it."""
    table = result.table.loc[[f"theta[{school}]" for school in data.index]]
    rows = range(len(data))
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.errorbar(
        data["effect"],
        [r - 0.12 for r in rows],
        xerr=1.645 * data["standard_error"],
        fmt="o",
        color="0.6",
        label="alone, 90 %",
    )
    middle = table["median"]
    spread = [middle - table["hpdi_5%"], table["hpdi_95%"] - middle]
    axes.errorbar(
        middle,
        [r + 0.12 for r in rows],
        xerr=spread,
        fmt="o",
        color="tab:blue",
        label="together, 90 %",
    )
    mu = result.table.loc["mu", "mean"]
    axes.axvline(mu, color="tab:blue", linestyle=":", label="mean of all schools")
    axes.set(yticks=rows, yticklabels=data.index, ylabel="school", xlabel="effect of coaching (points)")
    axes.invert_yaxis()
    axes.set_title("Eight schools: estimates shrink towards each other", loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Fit, print the table, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=600)
    parser.add_argument("--num-samples", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    data = pd.read_csv(HERE / "data" / "eight_schools.csv", index_col="school")
    result = fit(data, args.num_steps, args.num_samples)
    print(result.table.round(2).to_string())
    args.output.mkdir(parents=True, exist_ok=True)
    draw(data, result, args.output / "eight_schools.png")
    print(f"picture: {args.output / 'eight_schools.png'}")
    return result


if __name__ == "__main__":
    main()
