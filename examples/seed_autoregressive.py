"""A noisy autoregression as algebra, and how near its variational posterior comes to the exact one.

    x_t ~ Normal(b x_{t-1}, 1),    y_t ~ Normal(x_t, 0.3),    b ~ LogitNormal(0.5, 1).

The variational posterior is an autoregression of its own. For the exact one, b runs through a grid; for each
value the levels are the states of a linear model, and a Kalman filter and smoother give their law and the
density of the data.

    python examples/seed_autoregressive.py --num-steps 500 --num-tuned-steps 4000
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

from brancher import set_rng_seed
from brancher.symbolic import (
    BF,
    DeterministicVariable,
    LogitNormalVariable,
    NormalVariable,
    ProbabilisticModel,
    inference,
)

HERE = Path(__file__).parent
Y = [
    0.5962, 1.6006, 3.2332, 5.679, 3.1139, 4.1798, 3.5664, 3.6381, 3.7305, 3.1705,
    4.3976, 4.3755, 3.7323, 4.2587, 4.3329, 5.7457, 5.026, 4.4229, 3.167, 0.0834,
]  # fmt: skip
DRIVING_NOISE, MEASURE_NOISE = 1.0, 0.3


class Exact(NamedTuple):
    """The exact posterior on a grid."""

    b: np.ndarray  # the grid
    density: np.ndarray  # of b
    mean: float
    sd: float
    log_evidence: float  # nats
    x: np.ndarray  # mean of each level
    x_sd: np.ndarray


class Result(NamedTuple):
    """What the example returns."""

    table: pd.DataFrame  # a row each fit; the last one exact, its ELBO the log evidence (nats)
    levels: pd.DataFrame  # exact and approximate mean and sd of each level
    losses: pd.Series  # nats
    exact: Exact


def build(T: int) -> tuple[ProbabilisticModel, ProbabilisticModel, list[NormalVariable]]:
    """The model, its variational posterior, and the variables that will be observed."""
    driving_noise = DRIVING_NOISE
    measure_noise = MEASURE_NOISE
    x0 = NormalVariable(0.0, driving_noise, "x0")
    y0 = NormalVariable(x0, measure_noise, "y0")
    b = LogitNormalVariable(0.5, 1.0, "b")

    x = [x0]
    y = [y0]
    x_names = ["x0"]
    y_names = ["y0"]
    for t in range(1, T):
        x_names.append(f"x{t}")
        y_names.append(f"y{t}")
        x.append(NormalVariable(b * x[t - 1], driving_noise, x_names[t]))
        y.append(NormalVariable(x[t], measure_noise, y_names[t]))
    AR_model = ProbabilisticModel(x + y)

    Qb = LogitNormalVariable(0.5, 0.5, "b", learnable=True)
    logit_b_post = DeterministicVariable(0.0, "logit_b_post", learnable=True)
    Qx = [NormalVariable(0.0, 1.0, "x0", learnable=True)]
    Qx_mean = [DeterministicVariable(0.0, "x0_mean", learnable=True)]
    for t in range(1, T):
        Qx_mean.append(DeterministicVariable(0.0, x_names[t] + "_mean", learnable=True))
        Qx.append(
            NormalVariable(BF.sigmoid(logit_b_post) * Qx[t - 1] + Qx_mean[t], 1.0, x_names[t], learnable=True)
        )
    return AR_model, ProbabilisticModel([Qb, *Qx]), y


def kalman(y: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-density of the data, mean and variance of each level, for every value of b.

    Rauch, Tung & Striebel (1965): a filter forwards, a smoother backwards.

    Args:
        y: the data, shape (T,).
        b: values of the coefficient, shape (n,).

    Returns:
        Shapes (n,), (T, n) and (T, n).
    """
    before, spread = np.zeros((len(y), len(b))), np.zeros((len(y), len(b)))
    mean, variance = np.zeros_like(before), np.zeros_like(before)
    density = np.zeros(len(b))
    for t, value in enumerate(y):
        before[t] = b * mean[t - 1] if t else 0.0
        spread[t] = b**2 * variance[t - 1] + DRIVING_NOISE**2 if t else DRIVING_NOISE**2
        total = spread[t] + MEASURE_NOISE**2
        gain = spread[t] / total
        density -= 0.5 * (np.log(2 * np.pi * total) + (value - before[t]) ** 2 / total)
        mean[t] = before[t] + gain * (value - before[t])
        variance[t] = (1 - gain) * spread[t]
    for t in reversed(range(len(y) - 1)):
        back = b * variance[t] / spread[t + 1]
        mean[t] += back * (mean[t + 1] - before[t + 1])
        variance[t] += back**2 * (variance[t + 1] - spread[t + 1])
    return density, mean, variance


def exact_posterior(y: Sequence[float], size: int = 2000) -> Exact:
    """The posterior by a grid over the logit of b."""
    logit = np.linspace(-8.0, 9.0, size)
    b = 1.0 / (1.0 + np.exp(-logit))
    density, x, variance = kalman(np.asarray(y), b)
    prior = -0.5 * (logit - 0.5) ** 2 - 0.5 * np.log(2 * np.pi)
    log_weights = density + prior + np.log(logit[1] - logit[0])
    log_evidence = np.logaddexp.reduce(log_weights)
    weights = np.exp(log_weights - log_evidence)
    mean = weights @ b
    x_mean = x @ weights
    x_sd = np.sqrt((variance + (x - x_mean[:, None]) ** 2) @ weights)
    slope = b * (1 - b) * (logit[1] - logit[0])
    sd = np.sqrt(weights @ (b - mean) ** 2)
    return Exact(b, weights / slope, float(mean), float(sd), float(log_evidence), x_mean, x_sd)


def describe(model: ProbabilisticModel, exact: Exact, num_samples: int) -> tuple[pd.Series, pd.DataFrame]:
    """Compare the posterior of a model with the exact one: a row of the table, and the levels."""
    draws = model.get_posterior_sample(num_samples, seed=0)
    x = draws[[f"x{t}" for t in range(len(exact.x))]]
    levels = pd.DataFrame({"mean": x.mean(), "sd": x.std(), "exact mean": exact.x, "exact sd": exact.x_sd})
    row = {
        "E[b]": draws["b"].mean(),
        "sd[b]": draws["b"].std(),
        "RMSE of E[x]": np.sqrt(((levels["mean"] - levels["exact mean"]) ** 2).mean()),
        "ELBO": model.estimate_log_model_evidence(num_samples, seed=0),
    }
    return pd.Series(row), levels


def fit(num_steps: int, num_tuned_steps: int, num_samples: int) -> tuple[Result, pd.Series]:
    """Fit as printed, then go on with Adam and steps that shrink; return the draws of b too."""
    AR_model, variational_posterior, y = build(len(Y))
    for yt, value in zip(y, Y, strict=True):
        yt.observe(value)
    AR_model.set_posterior_model(variational_posterior)
    inference.perform_inference(
        AR_model, number_iterations=num_steps, number_samples=300, optimizer="SGD", lr=0.001
    )
    losses = [AR_model.diagnostics["loss curve"]]
    exact = exact_posterior(Y)
    rows = {"printed": describe(AR_model, exact, num_samples)[0]}
    for share, lr in ((0.4, 0.05), (0.4, 0.01), (0.2, 0.001)):
        inference.perform_inference(AR_model, max(1, int(share * num_tuned_steps)), 100, lr=lr)
        losses.append(AR_model.diagnostics["loss curve"])
    rows["well optimised"], levels = describe(AR_model, exact, num_samples)
    rows["exact"] = pd.Series(
        {
            "E[b]": exact.mean,
            "sd[b]": exact.sd,
            "RMSE of E[x]": 0.0,
            "ELBO": exact.log_evidence,
        }
    )
    table = pd.DataFrame.from_dict(rows, orient="index")
    draws = AR_model.get_posterior_sample(num_samples, seed=0)["b"]
    return Result(table, levels, pd.concat(losses, ignore_index=True), exact), draws


def draw(result: Result, b: pd.Series, num_steps: int, path: Path) -> None:
    """Show the levels, the coefficient and the losses."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), width_ratios=[2, 1.2, 1.2], layout="constrained")
    levels, t = result.levels, np.arange(len(Y))
    axes[0].fill_between(
        t,
        levels["mean"] - 2 * levels["sd"],
        levels["mean"] + 2 * levels["sd"],
        color="tab:blue",
        alpha=0.25,
        lw=0,
        label="posterior, mean ± 2 sd",
    )
    axes[0].plot(t, levels["mean"], color="tab:blue")
    axes[0].plot(t, levels["exact mean"], "--", color="tab:orange", label="exact mean")
    axes[0].plot(t, Y, ".", color="0.3", label="observed y")
    axes[0].set(xlabel="t", ylabel="level x", title="The levels", xticks=t[::5])
    axes[0].legend(frameon=False, loc="lower center")

    sns.histplot(x=b, stat="density", bins=40, color="tab:blue", alpha=0.4, ax=axes[1], label="posterior")
    axes[1].plot(result.exact.b, result.exact.density, "--", color="tab:orange", label="exact")
    prior = LogitNormalVariable(0.5, 1.0, "b").get_sample(4000, seed=0)["b"]
    sns.kdeplot(x=prior, color="0.3", lw=1, clip=(0, 1), ax=axes[1], label="prior")
    axes[1].set(xlim=(0.5, 1), xlabel="b", ylabel="density", title="The coefficient")
    axes[1].legend(frameon=False, loc="upper left")

    axes[2].plot(result.losses, lw=0.8, color="tab:blue", label="loss")
    axes[2].axvline(num_steps, color="0.6", lw=1, ls=":")
    axes[2].axhline(-result.exact.log_evidence, ls="--", color="tab:orange", label="- log evidence")
    axes[2].set(xlabel="iteration", ylabel="nats", title="The loss", yscale="log")
    axes[2].legend(frameon=False)
    sns.despine(figure)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Fit, print the tables, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=500, help="as printed: SGD, lr 0.001")
    parser.add_argument("--num-tuned-steps", type=int, default=4000, help="Adam, lr 0.05 to 0.001")
    parser.add_argument("--num-samples", type=int, default=20_000)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    result, b = fit(args.num_steps, args.num_tuned_steps, args.num_samples)
    print(result.table.round(4).to_string(na_rep=""))
    args.output.mkdir(parents=True, exist_ok=True)
    draw(result, b, args.num_steps, args.output / "seed_autoregressive.png")
    print(f"picture: {args.output / 'seed_autoregressive.png'}")
    return result


if __name__ == "__main__":
    main()
