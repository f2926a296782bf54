"""The models of the SVI benchmarks, for this library and for Pyro: the names they use are the same."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

Y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])
SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
ROWS, COLUMNS, GROUPS, LENGTH, BATCH = 1000, 10, 50, 20, 128
#: Rows and columns of the large logistic regression.
LARGE = (50_000, 50)


class Problem(NamedTuple):
    """A model with what it is fitted to.

    Attributes:
        model: the model.
        guide: its guide; None for a mean-field normal.
        args: for model and guide.
        particles: draws of the guide in one step.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any] | None
    args: tuple[torch.Tensor, ...]
    particles: int = 1


def logistic_data(rows: int = ROWS, columns: int = COLUMNS) -> tuple[torch.Tensor, torch.Tensor]:
    """A table, and outcomes from known weights."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, columns, generator=generator)
    weights = torch.linspace(-1.0, 1.0, columns)
    return x, torch.bernoulli(torch.sigmoid(x @ weights), generator=generator)


def group_data(groups: int = GROUPS) -> torch.Tensor:
    """One observation a group."""
    return torch.linspace(-2.0, 2.0, groups)


def series_data(length: int = LENGTH) -> torch.Tensor:
    """A short wave."""
    return torch.sin(torch.linspace(0.0, 6.0, length))


def image_data() -> torch.Tensor:
    """A batch of binary images of 784 pixels."""
    return torch.bernoulli(torch.full((BATCH, 784), 0.3), generator=torch.Generator().manual_seed(0))


def schools(ppl: ModuleType, dist: Any) -> Problem:
    """Hierarchical, 10 latents: two scalars and a plate of eight."""

    def model(sigma: torch.Tensor, y: torch.Tensor) -> None:
        mu = ppl.sample("mu", dist.Normal(0.0, 5.0))
        tau = ppl.sample("tau", dist.LogNormal(0.0, 1.0))
        with ppl.plate("school", 8):
            theta = ppl.sample("theta", dist.Normal(mu, tau))
            ppl.sample("y", dist.Normal(theta, sigma), obs=y)

    return Problem(model, None, (SIGMA, Y))


def logreg(ppl: ModuleType, dist: Any, rows: int = ROWS, columns: int = COLUMNS) -> Problem:
    """Logistic regression."""

    def model(x: torch.Tensor, y: torch.Tensor) -> None:
        w = ppl.sample("w", dist.Normal(torch.zeros(columns), 1.0).to_event(1))
        with ppl.plate("row", len(y)):
            ppl.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    return Problem(model, None, logistic_data(rows, columns))


def large(ppl: ModuleType, dist: Any) -> Problem:
    """Logistic regression whose table does not fit into the cache."""
    return logreg(ppl, dist, *LARGE)


def sites(ppl: ModuleType, dist: Any, groups: int = GROUPS) -> Problem:
    """Hierarchical with separate latent sites: mean, spread, noise and each group, in a loop."""

    def model(y: torch.Tensor) -> None:
        mu = ppl.sample("mu", dist.Normal(0.0, 1.0))
        tau = ppl.sample("tau", dist.LogNormal(0.0, 1.0))
        noise = ppl.sample("noise", dist.LogNormal(0.0, 1.0))
        for i in range(len(y)):
            theta = ppl.sample(f"theta_{i}", dist.Normal(mu, tau))
            ppl.sample(f"y_{i}", dist.Normal(theta, noise), obs=y[i])

    return Problem(model, None, (group_data(groups),))


def autoregression(ppl: ModuleType, dist: Any, length: int = LENGTH, particles: int = 300) -> Problem:
    """A hidden autoregression, a site a moment, with a guide of the same structure."""

    def logit_normal(loc: Any, scale: Any) -> Any:
        return dist.TransformedDistribution(dist.Normal(loc, scale), [dist.transforms.SigmoidTransform()])

    def model(y: torch.Tensor) -> None:
        b = ppl.sample("b", logit_normal(0.5, 1.0))
        x = ppl.sample("x_0", dist.Normal(0.0, 1.0))
        ppl.sample("y_0", dist.Normal(x, 0.3), obs=y[0])
        for t in range(1, len(y)):
            x = ppl.sample(f"x_{t}", dist.Normal(b * x, 1.0))
            ppl.sample(f"y_{t}", dist.Normal(x, 0.3), obs=y[t])

    def guide(y: torch.Tensor) -> None:
        positive, zero, one = dist.constraints.positive, torch.tensor(0.0), torch.tensor(1.0)
        b_scale = ppl.param("b_scale", torch.tensor(0.5), constraint=positive)
        ppl.sample("b", logit_normal(ppl.param("b_loc", torch.tensor(0.5)), b_scale))
        memory = torch.sigmoid(ppl.param("memory", zero))
        x = 0.0
        for t in range(len(y)):
            scale = ppl.param(f"scale_{t}", one, constraint=positive)
            x = ppl.sample(f"x_{t}", dist.Normal(memory * x + ppl.param(f"shift_{t}", zero), scale))

    return Problem(model, guide, (series_data(length),), particles)


class Autoencoder(nn.Module):
    """Encoder 784-400-2x20, decoder 20-400-784."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.Softplus(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.Softplus(), nn.Linear(400, 784))


def vae(ppl: ModuleType, dist: Any) -> Problem:
    """A variational autoencoder, one batch of 128."""
    net = Autoencoder()

    def model(x: torch.Tensor) -> None:
        ppl.module("decoder", net.decoder)
        with ppl.plate("image", len(x)):
            z = ppl.sample("z", dist.Normal(torch.zeros(len(x), 20), 1.0).to_event(1))
            ppl.sample("x", dist.Bernoulli(logits=net.decoder(z)).to_event(1), obs=x)

    def guide(x: torch.Tensor) -> None:
        ppl.module("encoder", net.encoder)
        with ppl.plate("image", len(x)):
            loc, log_scale = net.encoder(x).chunk(2, -1)
            ppl.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    return Problem(model, guide, (image_data(),))


MODELS: dict[str, Callable[[Any, Any], Problem]] = {
    "schools": schools,
    "logreg": logreg,
    "large": large,
    "sites": sites,
    "autoregression": autoregression,
    "vae": vae,
}
