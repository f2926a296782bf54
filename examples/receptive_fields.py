"""Population receptive fields: where in the visual field each voxel of a brain scan looks, and how sharply.

A bar moves across the screen. A voxel answers by how much of the bar lies in its receptive field, a Gaussian
with an unknown place and size:

    field_v(p) = exp(-|p - place_v|^2 / (2 size_v^2)),    signal_v(t) = gain_v <bar(t), field_v> + noise

The recording is simulated, so that what is found can be compared with the truth. The model is non-linear in
what is unknown; `BF` and numpy's operators write it down as on paper.

    python examples/receptive_fields.py --num-steps 1500
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Circle

from brancher import set_rng_seed
from brancher.symbolic import (
    BF,
    DeterministicVariable,
    LogNormalVariable,
    NormalVariable,
    ProbabilisticModel,
    inference,
)

HERE = Path(__file__).parent
NOISE = 0.5
REACH, SIDE = 10.0, 21  # degrees of visual angle from the centre, points on an edge
AXIS = np.linspace(-REACH, REACH, SIDE)
LATENTS = ["x", "y", "size", "gain"]


class Result(NamedTuple):
    """What the example returns."""

    losses: pd.Series  # nats
    table: pd.DataFrame  # a row each voxel and latent: mean, sd, truth
    signal: np.ndarray  # recorded, (voxels, times)
    response: np.ndarray  # draws of the posterior, (draws, voxels, times)


def stimulus() -> np.ndarray:
    """A bar that crosses the screen in four directions: (times, points), 1 where it is lit."""
    across, down = np.meshgrid(AXIS, AXIS, indexing="xy")
    frames = []
    for direction in (across, down, across + down, across - down):
        reach = np.abs(direction).max()
        frames += [np.abs(direction - at) < 0.2 * reach for at in np.linspace(-reach, reach, 16)]
        frames += 4 * [np.zeros_like(across, dtype=bool)]
    return np.array(frames, dtype=float).reshape(len(frames), -1)


def build(bar: np.ndarray, voxels: int) -> ProbabilisticModel:
    """The model of a recording of so many voxels."""
    across, down = (grid.reshape(1, -1) for grid in np.meshgrid(AXIS, AXIS, indexing="xy"))
    one_each = np.zeros((voxels, 1))
    x = NormalVariable(one_each, 4.0, "x")
    y = NormalVariable(one_each, 4.0, "y")
    size = LogNormalVariable(one_each + np.log(2.0), 0.5, "size")
    gain = LogNormalVariable(one_each, 0.5, "gain")
    field = BF.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * size**2))
    # The overlap of bar and field, as a share of the field's whole.
    overlap = field @ bar.T / (2 * np.pi * size**2) * (AXIS[1] - AXIS[0]) ** 2
    response = DeterministicVariable(5.0 * gain * overlap, "response")
    signal = NormalVariable(response, NOISE, "signal")
    return ProbabilisticModel([signal])


def fit(voxels: int, num_steps: int, num_samples: int) -> Result:
    """Simulate a recording, fit the model, compare with the truth."""
    model = build(stimulus(), voxels)
    truth = model._get_sample(1, seed=3)
    signal = truth["signal"][0, 0].numpy()
    model.observe({"signal": signal})
    losses = []
    for share, lr in ((0.6, 0.1), (0.4, 0.02)):
        inference.perform_inference(model, max(1, int(share * num_steps)), 10, optimizer="Adam", lr=lr)
        losses.append(model.diagnostics["loss curve"])
    draws = model._get_posterior_sample(num_samples, seed=0)
    rows = {
        (name, voxel): {
            "mean": float(draws[name][:, 0, voxel].mean()),
            "sd": float(draws[name][:, 0, voxel].std()),
            "truth": float(truth[name][0, 0, voxel]),
        }
        for name in LATENTS
        for voxel in range(voxels)
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["latent", "voxel"])
    return Result(pd.concat(losses, ignore_index=True), table, signal, draws["response"][:, 0].numpy())


def draw(result: Result, path: Path) -> None:
    """Show the receptive fields on the screen, and the signal of one voxel."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), width_ratios=[1, 1.7], layout="constrained")
    mean, truth = result.table["mean"], result.table["truth"]
    colors = plt.get_cmap("tab10")
    for voxel in range(len(result.signal)):
        for values, style in ((mean, "-"), (truth, "--")):
            place = values["x", voxel], values["y", voxel]
            left.add_patch(
                Circle(place, values["size", voxel], fill=False, ls=style, lw=1.4, color=colors(voxel % 10))
            )
        left.errorbar(
            mean["x", voxel],
            mean["y", voxel],
            xerr=2 * result.table.loc[("x", voxel), "sd"],
            yerr=2 * result.table.loc[("y", voxel), "sd"],
            color=colors(voxel % 10),
            lw=1,
        )
    left.set(
        xlim=(-REACH, REACH),
        ylim=(-REACH, REACH),
        xlabel="degrees across",
        ylabel="degrees up",
        title="Receptive fields: found (solid), true (dashed)",
        aspect="equal",
        xticks=np.linspace(-REACH, REACH, 5),
        yticks=np.linspace(-REACH, REACH, 5),
    )
    voxel = int(np.argmax(result.signal.max(1)))
    low, high = np.quantile(result.response[:, voxel], [0.05, 0.95], axis=0)
    times = np.arange(result.signal.shape[1])
    right.plot(times, result.signal[voxel], ".", color="0.4", label="recorded")
    right.fill_between(times, low, high, color="tab:blue", alpha=0.4, lw=0, label="response, 90 % interval")
    right.plot(times, result.response[:, voxel].mean(0), color="tab:blue", lw=1)
    right.set(xlabel="scan", ylabel="signal", title=f"What the bar does to voxel {voxel}")
    right.margins(y=0.2)  # room for the legend above the peaks
    right.legend(frameon=False, loc="upper right", ncols=2)
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Fit, print the table, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-voxels", type=int, default=8)
    parser.add_argument("--num-steps", type=int, default=1000)
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    result = fit(args.num_voxels, args.num_steps, args.num_samples)
    print(result.table.round(2).unstack("latent").swaplevel(axis=1)[LATENTS].to_string())
    args.output.mkdir(parents=True, exist_ok=True)
    draw(result, args.output / "receptive_fields.png")
    print(f"picture: {args.output / 'receptive_fields.png'}")
    return result


if __name__ == "__main__":
    main()
