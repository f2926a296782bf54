"""A variational autoencoder of handwritten digits, as algebra: networks are functions of variables.

A pixel is a Binomial count of 16 dots, with a probability that a network decodes from two latent coordinates.
The posterior of the coordinates is a normal. A second network, which returns a dict, encodes its mean and
standard deviation from the image. `examples/vae.py` writes the same as functions.

    python examples/symbolic_vae.py --num-steps 2000
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
from sklearn.datasets import load_digits
from torch import nn

from brancher import set_rng_seed
from brancher.symbolic import (
    BF,
    BinomialVariable,
    DeterministicVariable,
    EmpiricalVariable,
    NormalVariable,
    ProbabilisticModel,
    inference,
)

HERE = Path(__file__).parent
PIXELS, DOTS, HIDDEN = 64, 16, 128


class Result(NamedTuple):
    """What the example returns."""

    losses: pd.Series  # nats an image
    latent: pd.DataFrame  # a row each image: mean coordinates and digit
    image: np.ndarray  # counts of dots, (n, 64)
    decoded: np.ndarray  # mean counts, given the image, (n, 64)


class Encoder(nn.Module):
    """From images to the mean and standard deviation of their coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Softplus())
        self.mean, self.log_sd = nn.Linear(HIDDEN, 2), nn.Linear(HIDDEN, 2)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encode counts of dots."""
        features = self.body(image / DOTS)
        return {"mean": self.mean(features), "sd": self.log_sd(features).exp()}


def fit(num_steps: int, batch_size: int) -> Result:
    """Train both networks on minibatches; encode and decode every image."""
    digits = load_digits()
    encoder = Encoder()
    decoder = nn.Sequential(nn.Linear(2, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, PIXELS))

    z = NormalVariable(np.zeros(2), np.ones(2), "z")
    ink = DeterministicVariable(BF.sigmoid(BF.BrancherFunction(decoder)(z)), "ink")
    x = BinomialVariable(DOTS, probs=ink, name="x")
    model = ProbabilisticModel([x])

    Qx = EmpiricalVariable(digits.data, batch_size=batch_size, name="x", is_observed=True)
    code = BF.BrancherFunction(encoder)(Qx)
    Qz = NormalVariable(code["mean"], code["sd"], "z")
    model.set_posterior_model(ProbabilisticModel([Qx, Qz]))
    inference.perform_inference(model, num_steps, optimizer="Adam", lr=0.003)

    # Every image in place of the minibatch.
    draws = model._get_posterior_sample(20, input_values={"x": digits.data}, seed=0)
    place = draws["z"].mean(0).numpy()
    latent = pd.DataFrame({"z1": place[:, 0], "z2": place[:, 1], "digit": digits.target})
    losses = model.diagnostics["loss curve"] / len(digits.data)
    return Result(losses, latent, digits.data, DOTS * draws["ink"].mean(0).numpy())


def draw(result: Result, path: Path) -> None:
    """Show where the digits lie in the latent plane, and images beside what is left of them."""
    figure = plt.figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subfigures(1, 2)
    ax = left.subplots()
    latent = result.latent
    dots = ax.scatter(latent["z1"], latent["z2"], c=latent["digit"], cmap="tab10", vmin=-0.5, vmax=9.5, s=9)
    left.colorbar(dots, ax=ax, ticks=range(10), label="digit")
    ax.set(xlabel="$z_1$", ylabel="$z_2$", title="Where the encoder puts the digits")
    ax.set_aspect("equal", adjustable="datalim")
    axes = right.subplots(4, 5)
    first = [int(np.argmax(latent["digit"] == digit)) for digit in range(10)]
    for column, (above, below) in enumerate(zip(first[:5], first[5:], strict=True)):
        rows = (result.image[above], result.decoded[above], result.image[below], result.decoded[below])
        for row, image in enumerate(rows):
            axes[row, column].imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=DOTS)
            axes[row, column].set(xticks=[], yticks=[])
    for row in range(4):
        axes[row, 0].set_ylabel("decoded" if row % 2 else "image")
    right.suptitle("Images, and what two numbers keep of them")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Train, print what was learned, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    result = fit(args.num_steps, args.batch_size)
    tenth = max(1, len(result.losses) // 10)
    print(
        f"loss of an image: {result.losses[:tenth].mean():.1f} nats in the first tenth of the steps, ", end=""
    )
    print(f"{result.losses[-tenth:].mean():.1f} in the last")
    print(result.latent.groupby("digit").mean().round(2).T.to_string())
    args.output.mkdir(parents=True, exist_ok=True)
    draw(result, args.output / "symbolic_vae.png")
    print(f"picture: {args.output / 'symbolic_vae.png'}")
    return result


if __name__ == "__main__":
    main()
