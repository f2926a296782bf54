"""Eight schools by NUTS: why a sampler's warnings matter, and what to do about them.

Written as it is told, every school's effect is drawn around the mean with the spread tau. Where tau is small,
the effects are squeezed together, and no step serves the narrow and the wide places: trajectories diverge
and small values of tau are missed. Written with standardised effects the same posterior is easy:

    centred:      theta_j ~ Normal(mu, tau)
    non-centred:  theta_j = mu + tau eta_j,   eta_j ~ Normal(0, 1)

    python examples/mcmc.py --num-samples 1000
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import brancher.distributions as dist
from brancher import deterministic, plate, sample
from brancher.errors import BrancherWarning
from brancher.infer import MCMC, NUTS, compare_models

HERE = Path(__file__).parent


class Result(NamedTuple):
    """What the example returns: both posteriors, both reports, and the comparison of the models."""

    tables: dict[str, pd.DataFrame]
    divergences: dict[str, int]
    comparison: pd.DataFrame


def centred(schools: pd.Index, standard_error: torch.Tensor, effect: torch.Tensor | None = None) -> None:
    """Draw every school's effect around the mean."""
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", coords=schools):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("effect", dist.Normal(theta, standard_error), obs=effect)


def non_centred(schools: pd.Index, standard_error: torch.Tensor, effect: torch.Tensor | None = None) -> None:
    """Draw standardised effects, and scale them."""
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", coords=schools):
        eta = sample("eta", dist.Normal(0.0, 1.0))
        theta = deterministic("theta", mu + tau * eta, event_dim=0)
        sample("effect", dist.Normal(theta, standard_error), obs=effect)


MODELS: dict[str, Callable[..., Any]] = {"centred": centred, "non-centred": non_centred}


def run(model: Callable[..., Any], data: pd.DataFrame, num_samples: int) -> MCMC:
    """Four chains; what the run warns of is printed, as any program would show it."""
    effect, standard_error = (torch.tensor(data[name].to_numpy(), dtype=torch.float32) for name in data)
    mcmc = MCMC(NUTS(model), num_samples, num_chains=4, seed=1, progress=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BrancherWarning)
        mcmc.run(data.index, standard_error, effect)
    for warning in caught:
        print(warning.message)
    return mcmc


def draw(runs: dict[str, MCMC], school: str, path: Path) -> None:
    """Show where the chains went, and where they diverged."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="constrained")
    for ax, (name, mcmc) in zip(axes, runs.items(), strict=True):
        table = mcmc.to_frame()
        diverging = mcmc.stats["diverging"].flatten().numpy()
        theta, log_tau = table[f"theta[{school}]"].to_numpy(), np.log(table["tau"].to_numpy())
        ax.scatter(theta, log_tau, s=4, alpha=0.25, color="tab:blue", linewidth=0)
        ax.scatter(
            theta[diverging], log_tau[diverging], s=14, color="tab:red", label=f"{diverging.sum()} divergent"
        )
        ax.set_title(f"{name}: least tau {np.exp(log_tau.min()):.2g}", loc="left")
        ax.set(xlabel=f"effect in {school} (points)")
        ax.legend(frameon=False, loc="lower right")
    axes[0].set(ylabel="log tau", ylim=(-8, 5), xlim=(-25, 40))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Sample both, print what they say, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    data = pd.read_csv(HERE / "data" / "eight_schools.csv", index_col="school")
    runs = {}
    for name, model in MODELS.items():
        print(f"\n{name}")
        runs[name] = run(model, data, args.num_samples)
        print(runs[name].summary().loc[["mu", "tau"]].round(2).to_string())
    comparison = compare_models(runs)
    print(f"\nThe same model twice, so the same expected accuracy:\n{comparison.round(2).to_string()}")
    args.output.mkdir(parents=True, exist_ok=True)
    draw(runs, data.index[0], args.output / "mcmc.png")
    print(f"picture: {args.output / 'mcmc.png'}")
    divergences = {name: int(mcmc.stats["diverging"].sum()) for name, mcmc in runs.items()}
    return Result({name: mcmc.summary() for name, mcmc in runs.items()}, divergences, comparison)


if __name__ == "__main__":
    main()
