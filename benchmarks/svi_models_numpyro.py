"""The models of the SVI benchmarks for NumPyro, whose arrays and networks are its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import svi_models as ours
from harness import clock
from numpyro.distributions import constraints
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal


class Problem(NamedTuple):
    """A model, its guide or None, their arguments, and the draws of one step."""

    model: Callable[..., Any]
    guide: Callable[..., Any] | None
    args: tuple[Any, ...]
    particles: int = 1


def arrays(*tensors: Any) -> tuple[Any, ...]:
    """Tensors as JAX arrays."""
    return tuple(jnp.asarray(tensor.numpy()) for tensor in tensors)


def schools() -> Problem:
    """Hierarchical, 10 latents."""

    def model(sigma: Any, y: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = numpyro.sample("tau", dist.LogNormal(0.0, 1.0))
        with numpyro.plate("school", 8):
            theta = numpyro.sample("theta", dist.Normal(mu, tau))
            numpyro.sample("y", dist.Normal(theta, sigma), obs=y)

    return Problem(model, None, arrays(ours.SIGMA, ours.Y))


def logreg(rows: int = ours.ROWS, columns: int = ours.COLUMNS) -> Problem:
    """Logistic regression."""

    def model(x: Any, y: Any) -> None:
        w = numpyro.sample("w", dist.Normal(jnp.zeros(columns), 1.0).to_event(1))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    return Problem(model, None, arrays(*ours.logistic_data(rows, columns)))


def large() -> Problem:
    """The same with many rows."""
    return logreg(*ours.LARGE)


def sites() -> Problem:
    """Hierarchical with separate latent sites."""

    def model(y: Any) -> None:
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        tau = numpyro.sample("tau", dist.LogNormal(0.0, 1.0))
        noise = numpyro.sample("noise", dist.LogNormal(0.0, 1.0))
        for i in range(len(y)):
            theta = numpyro.sample(f"theta_{i}", dist.Normal(mu, tau))
            numpyro.sample(f"y_{i}", dist.Normal(theta, noise), obs=y[i])

    return Problem(model, None, arrays(ours.group_data()))


def autoregression() -> Problem:
    """A hidden autoregression with a guide of the same structure."""

    def logit_normal(loc: Any, scale: Any) -> Any:
        return dist.TransformedDistribution(dist.Normal(loc, scale), dist.transforms.SigmoidTransform())

    def model(y: Any) -> None:
        b = numpyro.sample("b", logit_normal(0.5, 1.0))
        x = numpyro.sample("x_0", dist.Normal(0.0, 1.0))
        numpyro.sample("y_0", dist.Normal(x, 0.3), obs=y[0])
        for t in range(1, len(y)):
            x = numpyro.sample(f"x_{t}", dist.Normal(b * x, 1.0))
            numpyro.sample(f"y_{t}", dist.Normal(x, 0.3), obs=y[t])

    def guide(y: Any) -> None:
        b_scale = numpyro.param("b_scale", 0.5, constraint=constraints.positive)
        numpyro.sample("b", logit_normal(numpyro.param("b_loc", 0.5), b_scale))
        memory = jax.nn.sigmoid(numpyro.param("memory", 0.0))
        x: Any = 0.0
        for t in range(len(y)):
            scale = numpyro.param(f"scale_{t}", 1.0, constraint=constraints.positive)
            x = numpyro.sample(f"x_{t}", dist.Normal(memory * x + numpyro.param(f"shift_{t}", 0.0), scale))

    return Problem(model, guide, arrays(ours.series_data()), 300)


def vae() -> Problem:
    """A variational autoencoder; the two networks are written out, for want of a library of layers."""
    net = ours.Autoencoder()

    def network(name: str, module: Any, x: Any) -> Any:
        weights = {key: jnp.asarray(value.detach().numpy()) for key, value in module.named_parameters()}
        w = numpyro.param(name, weights)
        hidden = jax.nn.softplus(x @ w["0.weight"].T + w["0.bias"])
        return hidden @ w["2.weight"].T + w["2.bias"]

    def model(x: Any) -> None:
        with numpyro.plate("image", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros((len(x), 20)), 1.0).to_event(1))
            law = dist.Bernoulli(logits=network("decoder", net.decoder, z)).to_event(1)
            numpyro.sample("x", law, obs=x)

    def guide(x: Any) -> None:
        with numpyro.plate("image", len(x)):
            loc, log_scale = jnp.split(network("encoder", net.encoder, x), 2, -1)
            numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))

    return Problem(model, guide, arrays(ours.image_data()))


MODELS: dict[str, Callable[[], Problem]] = {
    "schools": schools,
    "logreg": logreg,
    "large": large,
    "sites": sites,
    "autoregression": autoregression,
    "vae": vae,
}


def make(name: str) -> tuple[SVI, tuple[Any, ...]]:
    """SVI and the arguments of its steps."""
    model, guide, args, particles = MODELS[name]()
    optimizer = numpyro.optim.Adam(0.001)
    return SVI(model, guide or AutoNormal(model), optimizer, Trace_ELBO(num_particles=particles)), args


def stepper(name: str) -> Callable[[int], None]:
    """Jitted single steps, the loss read at each one."""
    svi, args = make(name)
    state = svi.init(jax.random.PRNGKey(0), *args)
    update = jax.jit(svi.update)

    def run(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            state, loss = update(state, *args)
            float(loss)

    return run


def runner(name: str) -> Callable[[int], float]:
    """``svi.run``, by the slope of two lengths: each call compiles anew, and that is to be left out."""
    svi, args = make(name)
    state = svi.init(jax.random.PRNGKey(0), *args)
    short = 50

    def seconds(steps: int) -> float:
        begin = clock()
        result = svi.run(jax.random.PRNGKey(0), steps, *args, progress_bar=False, init_state=state)
        jax.block_until_ready(result)
        return clock() - begin

    def run(calls: int) -> float:
        first = seconds(short)
        return max(seconds(short + calls) - first, 1e-9)

    return run
