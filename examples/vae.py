"""A variational autoencoder of handwritten digits: torch modules, minibatches, a map of its latent plane.

An 8 x 8 image counts, for each pixel, how many of 16 dots are inked: a Binomial(16) with a probability that a
neural network decodes from two latent coordinates. A second network encodes an image into the posterior of
its coordinates.

    python examples/vae.py --num-epochs 60
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import brancher.distributions as dist
from brancher import module, optim, plate, sample, set_rng_seed
from brancher.infer import SVI, Trace_ELBO

HERE = Path(__file__).parent
DOTS = 16  # of each pixel
PIXELS = 64


class Result(NamedTuple):
    """Losses in nats an image, the mean latent coordinates and digit of every image, the trained networks."""

    losses: pd.Series
    latent: pd.DataFrame
    vae: VAE


class Encoder(nn.Module):
    """From images (N, 64) to the loc and scale of their coordinates, (N, 2) each."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(PIXELS, hidden), nn.Softplus(), nn.Linear(hidden, hidden), nn.Softplus()
        )
        self.loc = nn.Linear(hidden, 2)
        self.log_scale = nn.Linear(hidden, 2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode counts of dots."""
        features = self.body(image / DOTS)
        return self.loc(features), self.log_scale(features).exp()


class VAE:
    """The two networks, and the model and guide that use them."""

    def __init__(self, num_images: int, hidden: int = 128) -> None:
        self.num_images = num_images
        self.encoder = Encoder(hidden)
        self.decoder = nn.Sequential(
            nn.Linear(2, hidden),
            nn.Softplus(),
            nn.Linear(hidden, hidden),
            nn.Softplus(),
            nn.Linear(hidden, PIXELS),
        )

    def model(self, image: torch.Tensor) -> None:
        """Draw two coordinates for every image of a minibatch, and its dots."""
        decoder = module("decoder", self.decoder)
        with plate("image", self.num_images, subsample_size=len(image)):
            z = sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            sample("dots", dist.Binomial(DOTS, logits=decoder(z)).to_event(1), obs=image)

    def guide(self, image: torch.Tensor) -> None:
        """Draw the coordinates from what the encoder makes of the images."""
        encoder = module("encoder", self.encoder)
        with plate("image", self.num_images, subsample_size=len(image)):
            loc, scale = encoder(image)
            sample("z", dist.Normal(loc, scale).to_event(1))


def fit(image: torch.Tensor, digit: torch.Tensor, num_epochs: int, batch_size: int) -> Result:
    """Train both networks on minibatches and place every image in the latent plane."""
    vae = VAE(len(image))
    batches = DataLoader(TensorDataset(image), batch_size, shuffle=True, drop_last=True)
    svi = SVI(vae.model, vae.guide, optim.Adam({"lr": 0.003}), Trace_ELBO())
    losses = svi.run(num_epochs * len(batches), batches) / len(image)
    with torch.no_grad():
        loc, _ = vae.encoder(image)
    latent = pd.DataFrame({"z1": loc[:, 0].numpy(), "z2": loc[:, 1].numpy(), "digit": digit.numpy()})
    return Result(losses, latent, vae)


def draw(result: Result, path: Path) -> None:
    """Show where the digits lie in the latent plane, and what the plane decodes to."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    latent = result.latent
    dots = left.scatter(latent["z1"], latent["z2"], c=latent["digit"], cmap="tab10", vmin=-0.5, vmax=9.5, s=9)
    figure.colorbar(dots, ax=left, ticks=range(10), label="digit")
    left.set(xlabel="$z_1$", ylabel="$z_2$", title="Where the encoder puts 1,797 handwritten digits")
    left.set_aspect("equal", adjustable="datalim")

    side, reach = 11, 3.0
    axis = torch.linspace(-reach, reach, side)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    with torch.no_grad():
        ink = torch.sigmoid(result.vae.decoder(plane)).reshape(side, side, 8, 8)
    ink = nn.functional.pad(ink, (1, 1, 2, 2))  # white between the images
    # Row by row of the plane, with z2 upwards and the rows of an image downwards.
    sheet = ink.flip(0).permute(0, 2, 1, 3).reshape(12 * side, 10 * side).numpy()
    half = reach * side / (side - 1)
    right.imshow(sheet, cmap="gray_r", extent=(-half, half, -half, half), aspect="auto")
    right.set(xlabel="$z_1$", ylabel="$z_2$", title="What the decoder draws there")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Train, print what was learned, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    digits = load_digits()
    image, digit = torch.tensor(digits.data, dtype=torch.float32), torch.tensor(digits.target)
    result = fit(image, digit, args.num_epochs, args.batch_size)
    epoch = len(image) // args.batch_size
    print(f"loss of an image: {result.losses[:epoch].mean():.1f} nats in the first epoch, ", end="")
    print(f"{result.losses[-epoch:].mean():.1f} in the last")
    print(result.latent.groupby("digit").mean().round(2).T.to_string())
    args.output.mkdir(parents=True, exist_ok=True)
    draw(result, args.output / "vae.png")
    print(f"picture: {args.output / 'vae.png'}")
    return result


if __name__ == "__main__":
    main()
