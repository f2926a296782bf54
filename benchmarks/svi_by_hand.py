"""The models of the SVI benchmarks in plain eager torch, written as one would for this one model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from svi_models import (
    COLUMNS,
    GROUPS,
    LARGE,
    LENGTH,
    ROWS,
    SIGMA,
    Autoencoder,
    Y,
    group_data,
    image_data,
    logistic_data,
    series_data,
)

Tensor = torch.Tensor
Draws = dict[str, Tensor]


def normal(loc: Tensor | float, scale: Tensor | float) -> torch.distributions.Normal:
    """A normal whose arguments are not checked."""
    return torch.distributions.Normal(loc, scale, validate_args=False)


class MeanField:
    """Normal guide, ELBO and Adam, one pair of tensors a latent.

    Args:
        shapes: of the latents, unconstrained.
        log_joint: of the draws, in nats.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], log_joint: Callable[[Draws], Tensor]) -> None:
        self.loc = {k: torch.zeros(s, requires_grad=True) for k, s in shapes.items()}
        self.log_scale = {k: torch.full(s, -2.3, requires_grad=True) for k, s in shapes.items()}
        self.optimizer = torch.optim.Adam([*self.loc.values(), *self.log_scale.values()], lr=0.001)
        self.log_joint = log_joint

    def step(self) -> float:
        """One draw, one gradient, one update; the loss is read as SVI reads it."""
        draws, log_q = {}, torch.zeros(())
        for name, loc in self.loc.items():
            q = normal(loc, self.log_scale[name].exp())
            draws[name] = q.rsample()
            log_q = log_q + q.log_prob(draws[name]).sum()
        return update(self.optimizer, log_q - self.log_joint(draws))


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """One gradient and one update."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def schools() -> Callable[[], float]:
    """LogNormal(0, 1) of exp(u), with the Jacobian, is N(0, 1) of u."""

    def log_joint(z: Draws) -> Tensor:
        prior = normal(0.0, 5.0).log_prob(z["mu"]) + normal(0.0, 1.0).log_prob(z["tau"])
        group = normal(z["mu"], z["tau"].exp()).log_prob(z["theta"]).sum()
        return prior + group + normal(z["theta"], SIGMA).log_prob(Y).sum()

    return MeanField({"mu": (), "tau": (), "theta": (8,)}, log_joint).step


def logreg(rows: int = ROWS, columns: int = COLUMNS) -> Callable[[], float]:
    """The density of all rows in one sum."""
    x, y = logistic_data(rows, columns)

    def log_joint(z: Draws) -> Tensor:
        law = torch.distributions.Bernoulli(logits=x @ z["w"], validate_args=False)
        return normal(0.0, 1.0).log_prob(z["w"]).sum() + law.log_prob(y).sum()

    return MeanField({"w": (columns,)}, log_joint).step


def large() -> Callable[[], float]:
    """The same with many rows."""
    return logreg(*LARGE)


def sites() -> Callable[[], float]:
    """Separate latents stay separate: this is the loop that the model has."""
    y = group_data()

    def log_joint(z: Draws) -> Tensor:
        unit = normal(0.0, 1.0)
        total = unit.log_prob(z["mu"]) + unit.log_prob(z["tau"]) + unit.log_prob(z["noise"])
        spread, noise = z["tau"].exp(), z["noise"].exp()
        for i in range(GROUPS):
            theta = z[f"theta_{i}"]
            total = total + normal(z["mu"], spread).log_prob(theta)
            total = total + normal(theta, noise).log_prob(y[i])
        return total

    names = ["mu", "tau", "noise", *(f"theta_{i}" for i in range(GROUPS))]
    return MeanField(dict.fromkeys(names, ()), log_joint).step


def autoregression() -> Callable[[], float]:
    """300 draws at once, a pair of tensors a moment."""
    y = series_data()
    shift = [torch.zeros((), requires_grad=True) for _ in range(LENGTH)]
    log_scale = [torch.zeros((), requires_grad=True) for _ in range(LENGTH)]
    b_loc, b_log_scale, memory = (torch.tensor(v, requires_grad=True) for v in (0.5, -0.7, 0.0))
    optimizer = torch.optim.Adam([*shift, *log_scale, b_loc, b_log_scale, memory], lr=0.001)

    def step() -> float:
        q = normal(b_loc, b_log_scale.exp())
        u = q.rsample((300,))
        # The Jacobian of the sigmoid is the same in model and guide.
        loss = q.log_prob(u) - normal(0.5, 1.0).log_prob(u)
        b, keep, x_before, q_before = torch.sigmoid(u), torch.sigmoid(memory), None, None
        for t in range(LENGTH):
            loc = shift[t] if q_before is None else keep * q_before + shift[t]
            q = normal(loc, log_scale[t].exp())
            x = q.rsample((300,)) if q_before is None else q.rsample()
            prior = normal(0.0, 1.0) if x_before is None else normal(b * x_before, 1.0)
            loss = loss + q.log_prob(x) - prior.log_prob(x) - normal(x, 0.3).log_prob(y[t])
            x_before = q_before = x
        return update(optimizer, loss.mean())

    return step


def vae() -> Callable[[], float]:
    """The usual training loop."""
    net, x = Autoencoder(), image_data()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001)

    def step() -> float:
        loc, log_scale = net.encoder(x).chunk(2, -1)
        q = normal(loc, log_scale.exp())
        z = q.rsample()
        law = torch.distributions.Bernoulli(logits=net.decoder(z), validate_args=False)
        loss = (q.log_prob(z) - normal(0.0, 1.0).log_prob(z)).sum() - law.log_prob(x).sum()
        return update(optimizer, loss)

    return step


BY_HAND: dict[str, Callable[[], Callable[[], float]]] = {
    "schools": schools,
    "logreg": logreg,
    "large": large,
    "sites": sites,
    "autoregression": autoregression,
    "vae": vae,
}
