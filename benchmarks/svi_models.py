"""The models of the SVI benchmarks, in this library, in Pyro, and written by hand in torch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

Y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])
SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])


def logistic_data() -> tuple[torch.Tensor, torch.Tensor]:
    """1000 rows, 10 columns, from known weights."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 10, generator=generator)
    weights = torch.linspace(-1.0, 1.0, 10)
    return x, torch.bernoulli(torch.sigmoid(x @ weights), generator=generator)


def schools(ppl: ModuleType, dist: Any) -> Any:
    """Hierarchical, 10 latents: two scalars and a plate of eight."""

    def model(sigma: torch.Tensor, y: torch.Tensor) -> None:
        mu = ppl.sample("mu", dist.Normal(0.0, 5.0))
        tau = ppl.sample("tau", dist.LogNormal(0.0, 1.0))
        with ppl.plate("school", 8):
            theta = ppl.sample("theta", dist.Normal(mu, tau))
            ppl.sample("y", dist.Normal(theta, sigma), obs=y)

    return model, (SIGMA, Y)


def logreg(ppl: ModuleType, dist: Any) -> Any:
    """Logistic regression, 1000 rows, 10 columns."""
    x, y = logistic_data()

    def model(x: torch.Tensor, y: torch.Tensor) -> None:
        w = ppl.sample("w", dist.Normal(torch.zeros(10), 1.0).to_event(1))
        with ppl.plate("row", 1000):
            ppl.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    return model, (x, y)


def sites(ppl: ModuleType, dist: Any) -> Any:
    """Hierarchical with 53 separate latent sites: mean, spread, noise and 50 groups in a loop."""
    data = torch.linspace(-2.0, 2.0, 50)

    def model(y: torch.Tensor) -> None:
        mu = ppl.sample("mu", dist.Normal(0.0, 1.0))
        tau = ppl.sample("tau", dist.LogNormal(0.0, 1.0))
        noise = ppl.sample("noise", dist.LogNormal(0.0, 1.0))
        for i in range(50):
            theta = ppl.sample(f"theta_{i}", dist.Normal(mu, tau))
            ppl.sample(f"y_{i}", dist.Normal(theta, noise), obs=y[i])

    return model, (data,)


class ByHand:
    """Mean-field normal guide, ELBO and Adam in plain eager torch, one tensor pair a latent."""

    def __init__(self, name: str) -> None:
        shapes = {
            "schools": {"mu": (), "tau": (), "theta": (8,)},
            "logreg": {"w": (10,)},
            "sites": {"mu": (), "tau": (), "noise": (), **{f"theta_{i}": () for i in range(50)}},
        }[name]
        self.loc = {k: torch.zeros(s, requires_grad=True) for k, s in shapes.items()}
        self.log_scale = {k: torch.full(s, -2.3, requires_grad=True) for k, s in shapes.items()}
        self.optimizer = torch.optim.Adam([*self.loc.values(), *self.log_scale.values()], lr=0.01)
        self.log_joint = getattr(self, f"_{name}")
        self.args = {
            "schools": (SIGMA, Y),
            "logreg": logistic_data(),
            "sites": (torch.linspace(-2.0, 2.0, 50),),
        }[name]

    def step(self) -> float:
        """One draw, one gradient, one update; the loss is read as SVI reads it."""
        normal = torch.distributions.Normal
        draws, log_q = {}, torch.zeros(())
        for name, loc in self.loc.items():
            q = normal(loc, self.log_scale[name].exp(), validate_args=False)
            draws[name] = q.rsample()
            log_q = log_q + q.log_prob(draws[name]).sum()
        loss = log_q - self.log_joint(draws, *self.args)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _schools(self, z: dict[str, torch.Tensor], sigma: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        normal = torch.distributions.Normal
        # LogNormal(0, 1) of exp(u), with the Jacobian, is N(0, 1) of u.
        prior = normal(0.0, 5.0, validate_args=False).log_prob(z["mu"])
        prior = prior + normal(0.0, 1.0, validate_args=False).log_prob(z["tau"])
        group = normal(z["mu"], z["tau"].exp(), validate_args=False).log_prob(z["theta"]).sum()
        return prior + group + normal(z["theta"], sigma, validate_args=False).log_prob(y).sum()

    def _logreg(self, z: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        prior = torch.distributions.Normal(0.0, 1.0, validate_args=False).log_prob(z["w"]).sum()
        law = torch.distributions.Bernoulli(logits=x @ z["w"], validate_args=False)
        return prior + law.log_prob(y).sum()

    def _sites(self, z: dict[str, torch.Tensor], y: torch.Tensor) -> torch.Tensor:
        normal = torch.distributions.Normal
        unit = normal(0.0, 1.0, validate_args=False)
        total = unit.log_prob(z["mu"]) + unit.log_prob(z["tau"]) + unit.log_prob(z["noise"])
        spread, noise = z["tau"].exp(), z["noise"].exp()
        for i in range(50):
            theta = z[f"theta_{i}"]
            total = total + normal(z["mu"], spread, validate_args=False).log_prob(theta)
            total = total + normal(theta, noise, validate_args=False).log_prob(y[i])
        return total


MODELS = {"schools": schools, "logreg": logreg, "sites": sites}
