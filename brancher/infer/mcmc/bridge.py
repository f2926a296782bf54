"""A model's density for samplers and optimisers that are not this library's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from brancher.distributions import biject_to
from brancher.errors import UnknownNameError, nearest
from brancher.handlers import Trace, substitute, trace
from brancher.infer.initialization import Init, init_to_uniform
from brancher.infer.mcmc import rng
from brancher.infer.mcmc.engine import Compile, make_gradient
from brancher.infer.mcmc.integrator import value_and_grad
from brancher.infer.mcmc.kernels import check_pyro_bridge_options
from brancher.infer.mcmc.potential import Potential
from brancher.infer.mcmc.start import find_start
from brancher.staging import random_state_kept

if TYPE_CHECKING:
    import numpy as np

Fn = Callable[..., Any]


def log_density(
    model: Fn, args: Sequence[Any], params: Mapping[str, Any], kwargs: Mapping[str, Any] | None = None
) -> Tensor:
    """Log of the joint density of latent and observed sites, at constrained values.

    Args:
        model: the model.
        args: its positional arguments.
        params: a value for each latent site, in its support.
        kwargs: the model's keyword arguments.

    Returns:
        Nats, shape ``()``; differentiable with respect to ``params``.

    Raises:
        UnknownNameError: a latent site has no value, or a value no site.

    Example:
        >>> from brancher.infer import log_density
        >>> def model(y):
        ...     mu = sample("mu", dist.Normal(0.0, 1.0))
        ...     sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> log_density(model, (torch.tensor(0.0),), {"mu": 0.0})
        tensor(-1.8379)
    """
    values = {
        name: value if isinstance(value, Tensor) else torch.as_tensor(value) for name, value in params.items()
    }
    with random_state_kept():
        given = substitute(model, substitute_fn=lambda message: values.get(message.name))
        record = trace(given).get_trace(*args, **(kwargs or {}))
    latent = record.stochastic_nodes
    for name in values:
        if name not in record:
            raise UnknownNameError(
                f"log_density '{name}': expected values of the latent sites {latent}, got one of no site"
                f"{nearest(name, latent) or '; leave it out'}"
            )
    missing = [name for name in latent if name not in values]
    if missing:
        raise UnknownNameError(f"log_density: expected values for {latent}, got none for {missing}; add them")
    return record.log_prob_sum()


class ModelInfo(NamedTuple):
    """What a foreign sampler needs; unpacks as Pyro's ``initialize_model`` does.

    Attributes:
        initial_params: unconstrained values by latent site where the density is finite, with a dimension of
            chains on the left where there are several.
        potential_fn: minus the log density in nats of unconstrained values by site, Jacobians included.
        transforms: from each site's support, as it is at the prototype, to unconstrained values; ``.inv`` is
            the way back.
        prototype_trace: one run of the model.
    """

    initial_params: dict[str, Tensor]
    potential_fn: Callable[[Mapping[str, Tensor]], Tensor]
    transforms: dict[str, Transform]
    prototype_trace: Trace


def initialize_model(
    model: Fn,
    model_args: Sequence[Any] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    *,
    init_strategy: Init = init_to_uniform,
    num_chains: int = 1,
    seed: int = 0,
    **pyro_options: Any,
) -> ModelInfo:
    """Turn a model into an unconstrained potential with a point to start from.

    Args:
        model: a model; discrete latent sites with a finite support are summed out.
        model_args: its positional arguments.
        model_kwargs: its keyword arguments.
        init_strategy: first values of the latent sites.
        num_chains: how many starts to find.
        seed: of the starts.
        **pyro_options: what Pyro programs say about compiling and plates; it needs no answer here.

    Raises:
        InferenceTypeError: an option is unknown.
        UnsupportedError: a discrete latent site has no finite support, or a plate is subsampled.
        NonFiniteError: no start with a finite density was found.

    Example:
        >>> from brancher.infer import initialize_model
        >>> info = initialize_model(lambda: sample("x", dist.Gamma(2.0, 1.0)))
        >>> info.potential_fn({"x": torch.tensor(0.0)})
        tensor(1.)
    """
    check_pyro_bridge_options(pyro_options)
    potential = Potential(model, tuple(model_args), dict(model_kwargs or {}), "initialize_model", True)
    keys = rng.chain_keys(seed, torch.arange(num_chains, device=potential.like.device))
    starts = find_start(potential, value_and_grad(potential.log_prob), keys, init_strategy)
    first = potential.split(starts)
    values = {name: value[0] for name, value in potential.constrain(starts[:1]).items()}
    with random_state_kept():
        record = trace(substitute(model, data=values)).get_trace(*potential.args, **potential.kwargs)
    return ModelInfo(
        first if num_chains > 1 else {name: value[0] for name, value in first.items()},
        lambda params: -potential.log_prob(potential.pack(params, 1))[0],
        {slot.name: biject_to(record.nodes[slot.name].fn.support).inv for slot in potential.slots},
        record,
    )


class FlatDensity:
    """The log density of one flat unconstrained vector and its gradient, NumPy's float64 in and out.

    Inside, the density is computed in the model's own dtype.

    Args:
        model: a model; discrete latent sites with a finite support are summed out.
        args: its positional arguments.
        kwargs: its keyword arguments.
        compile: True, False, or ``"auto"``: compiled, with an eager fallback and one warning.

    Attributes:
        dim: length of the vector.
        shapes: of the values that ``constrain`` gives, by site.

    Example:
        >>> from brancher.infer import FlatDensity
        >>> density = FlatDensity(lambda: sample("x", dist.Normal(0.0, 1.0)), compile=False)
        >>> density(density.initial(seed=0) * 0)
        (-0.9189385175704956, array([-0.]))
    """

    def __init__(
        self,
        model: Fn,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        compile: Compile = "auto",
    ) -> None:
        self.potential = Potential(model, tuple(args), dict(kwargs or {}), "FlatDensity", True)
        self.dim = self.potential.dim
        example = self.potential.like.new_zeros(1, self.dim)
        self._gradient = make_gradient(self.potential.log_prob, example, compile)
        self.shapes = {
            name: tuple(value.shape[1:]) for name, value in self.potential.constrain(example).items()
        }

    def __call__(self, position: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        """Log density in nats and its gradient, shape ``(dim,)``; minus infinity where it is not a number."""
        value, grad = self._gradient(self._tensor(position)[None])
        found = float(value)
        return -math.inf if math.isnan(found) else found, _numpy(grad[0])

    def constrain(self, position: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Values of latent and deterministic sites for vectors ``(..., dim)``."""
        flat = self._tensor(position)
        values = self.potential.constrain(flat.reshape(-1, self.dim))
        return {name: _numpy(v.reshape(flat.shape[:-1] + v.shape[1:])) for name, v in values.items()}

    def initial(self, seed: int, init_strategy: Init = init_to_uniform) -> np.ndarray[Any, Any]:
        """A vector with a finite density, shape ``(dim,)``."""
        keys = rng.chain_keys(seed, torch.zeros(1, dtype=torch.int64, device=self.potential.like.device))
        return _numpy(find_start(self.potential, self._gradient, keys, init_strategy)[0])

    def _tensor(self, position: np.ndarray[Any, Any]) -> Tensor:
        like = self.potential.like
        return torch.as_tensor(position, dtype=like.dtype, device=like.device)


def _numpy(value: Tensor) -> np.ndarray[Any, Any]:
    return (value.double() if value.is_floating_point() else value).cpu().numpy()
