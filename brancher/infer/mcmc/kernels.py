"""What users choose from: `NUTS`, `HMC`, `ChEES`, `RandomWalk`. They hold settings; `MCMC` runs them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from brancher.errors import InferenceError, InferenceTypeError, UnsupportedError, nearest
from brancher.infer.initialization import Init, init_to_uniform
from brancher.infer.mcmc.hmc import HMCKernel
from brancher.infer.mcmc.nuts import NUTSKernel
from brancher.infer.mcmc.random_walk import RandomWalkKernel
from brancher.infer.mcmc.sampler import Settings

Fn = Callable[..., Any]
PotentialFn = Callable[[dict[str, Tensor]], Tensor]


class MCMCKernel(ABC):
    """Settings that all kernels share.

    Args:
        model: a model; or give ``potential_fn``.
        potential_fn: minus a log density, of a dict of unconstrained tensors; `MCMC` then needs
            ``initial_params``.
        init_strategy: first values of the latent sites, see `brancher.infer.init_to_uniform` and its kin.

    Raises:
        InferenceError: both or neither of model and potential_fn.
    """

    needs_gradient = True
    shares_chains = False
    #: From the space of ``potential_fn``'s draws to the unconstrained one, by name; see `MCMC`.
    transforms: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        model: Fn | None = None,
        *,
        potential_fn: PotentialFn | None = None,
        step_size: float = 1.0,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: bool = False,
        target_accept_prob: float = 0.8,
        init_strategy: Init = init_to_uniform,
    ) -> None:
        if (model is None) == (potential_fn is None):
            raise InferenceError(
                f"{type(self).__name__}: expected a model or a potential_fn, got "
                f"{'neither' if model is None else 'both'}; give one"
            )
        for name, value in (("model", model), ("potential_fn", potential_fn)):
            if value is not None and not callable(value):
                raise InferenceTypeError(
                    f"{type(self).__name__}: expected {name} as a function, got {type(value).__name__}; "
                    "the data go to MCMC.run"
                )
        _positive(type(self).__name__, "step_size", step_size)
        if not 0 < target_accept_prob < 1:
            raise InferenceError(
                f"{type(self).__name__}: expected target_accept_prob in (0, 1), got {target_accept_prob}; "
                "0.8 is usual"
            )
        self.model, self.potential_fn = model, potential_fn
        self.step_size, self.adapt_step_size = float(step_size), adapt_step_size
        self.adapt_mass_matrix, self.full_mass = adapt_mass_matrix, full_mass
        self.target_accept_prob = target_accept_prob
        self.init_strategy = init_strategy

    @abstractmethod
    def transition(self) -> Any:
        """The state machine that these settings describe."""

    def settings(self, warmup_steps: int) -> Settings:
        """How a run with this kernel adapts."""
        return Settings(
            warmup_steps,
            self.step_size,
            self.adapt_step_size,
            self.adapt_mass_matrix,
            self._mass(),
            self.shares_chains,
        )

    def _mass(self) -> str:
        return "dense" if self.full_mass else "diag"


class NUTS(MCMCKernel):
    """The No-U-Turn Sampler; Hoffman & Gelman 2014, with multinomial sampling (Betancourt 2017).

    Args:
        model: a model; or give ``potential_fn``.
        step_size: first step size.
        adapt_step_size: whether warmup adapts it to ``target_accept_prob``.
        adapt_mass_matrix: whether warmup learns the mass matrix.
        full_mass: whether that is dense.
        target_accept_prob: higher for posteriors with narrow places.
        max_tree_depth: at most ``2**max_tree_depth - 1`` gradients a draw.
        init_strategy: first values of the latent sites.
        potential_fn: minus a log density of unconstrained tensors by name.
        mass_from_gradients: whether a diagonal mass uses the draws' gradients too.
        **pyro_options: what Pyro programs say about compiling and plates (``jit_compile``,
            ``max_plate_nesting``, ...); here ``MCMC`` decides about the one and finds out the other.

    Example:
        >>> from brancher.infer import MCMC, NUTS
        >>> def model(y):
        ...     mu = sample("mu", dist.Normal(0.0, 10.0))
        ...     with plate("row", len(y)):
        ...         sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> mcmc = MCMC(NUTS(model), num_samples=50, warmup_steps=40, compile=False, progress=False)
        >>> mcmc.run(torch.tensor([1.0, 2.0, 3.0]))
        >>> mcmc.get_samples()["mu"].shape
        torch.Size([50])
    """

    def __init__(
        self,
        model: Fn | None = None,
        step_size: float = 1.0,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: bool = False,
        target_accept_prob: float = 0.8,
        max_tree_depth: int = 10,
        init_strategy: Init = init_to_uniform,
        potential_fn: PotentialFn | None = None,
        mass_from_gradients: bool = False,
        **pyro_options: Any,
    ) -> None:
        _check_pyro_options("NUTS", pyro_options)
        self.transforms = pyro_options.get("transforms") or {}
        super().__init__(
            model,
            potential_fn=potential_fn,
            step_size=step_size,
            adapt_step_size=adapt_step_size,
            adapt_mass_matrix=adapt_mass_matrix,
            full_mass=full_mass,
            target_accept_prob=target_accept_prob,
            init_strategy=init_strategy,
        )
        if (
            isinstance(max_tree_depth, bool)
            or not isinstance(max_tree_depth, int)
            or not 1 <= max_tree_depth <= 30
        ):
            raise InferenceError(
                f"NUTS: expected max_tree_depth as an int from 1 to 30, got {max_tree_depth!r}"
            )
        if mass_from_gradients and full_mass:
            raise InferenceError(
                "NUTS: expected a diagonal mass with mass_from_gradients, got full_mass=True; choose one"
            )
        self.max_tree_depth, self.mass_from_gradients = max_tree_depth, mass_from_gradients

    def transition(self) -> NUTSKernel:
        """The state machine that these settings describe."""
        return NUTSKernel(self.target_accept_prob, self.max_tree_depth)

    def _mass(self) -> str:
        return "grads" if self.mass_from_gradients else super()._mass()


class HMC(MCMCKernel):
    """Hamiltonian Monte Carlo with trajectories of a given length; Neal 2011.

    Args:
        model: a model; or give ``potential_fn``.
        step_size: first step size.
        trajectory_length: step size times leapfrogs; ``2 * pi`` by default.
        num_steps: leapfrogs a draw, instead of ``trajectory_length``, for the first step size.
        adapt_step_size: whether warmup adapts the step size.
        adapt_mass_matrix: whether warmup learns the mass matrix.
        full_mass: whether that is dense.
        target_accept_prob: acceptance probability to adapt to.
        init_strategy: first values of the latent sites.
        potential_fn: minus a log density of unconstrained tensors by name.
        **pyro_options: see :class:`NUTS`.
    """

    def __init__(
        self,
        model: Fn | None = None,
        step_size: float = 1.0,
        trajectory_length: float | None = None,
        num_steps: int | None = None,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: bool = False,
        target_accept_prob: float = 0.8,
        init_strategy: Init = init_to_uniform,
        potential_fn: PotentialFn | None = None,
        **pyro_options: Any,
    ) -> None:
        _check_pyro_options("HMC", pyro_options)
        self.transforms = pyro_options.get("transforms") or {}
        super().__init__(
            model,
            potential_fn=potential_fn,
            step_size=step_size,
            adapt_step_size=adapt_step_size,
            adapt_mass_matrix=adapt_mass_matrix,
            full_mass=full_mass,
            target_accept_prob=target_accept_prob,
            init_strategy=init_strategy,
        )
        if trajectory_length is not None and num_steps is not None:
            raise InferenceError("HMC: expected trajectory_length or num_steps, got both; give one")
        if num_steps is not None:
            trajectory_length = step_size * _positive("HMC", "num_steps", num_steps)
        self.trajectory_length = 2 * math.pi if trajectory_length is None else trajectory_length
        _positive("HMC", "trajectory_length", self.trajectory_length)

    def transition(self) -> HMCKernel:
        """The state machine that these settings describe."""
        return HMCKernel(self.target_accept_prob, self.trajectory_length)


class ChEES(MCMCKernel):
    """HMC for many chains at once, which together learn step, mass and trajectory length.

    Best with dozens to thousands of chains; no tree, so no chain waits for another. Chains are not
    independent during warmup. Hoffman, Radul, Sountsov 2021.

    Args:
        model: a model; or give ``potential_fn``.
        step_size: first step size.
        target_accept_prob: 0.651 is the asymptotic optimum.
        init_strategy: first values of the latent sites.
        potential_fn: minus a log density of unconstrained tensors by name.
    """

    shares_chains = True

    def __init__(
        self,
        model: Fn | None = None,
        step_size: float = 1.0,
        target_accept_prob: float = 0.651,
        init_strategy: Init = init_to_uniform,
        potential_fn: PotentialFn | None = None,
    ) -> None:
        super().__init__(
            model,
            potential_fn=potential_fn,
            step_size=step_size,
            target_accept_prob=target_accept_prob,
            init_strategy=init_strategy,
        )

    def transition(self) -> HMCKernel:
        """The state machine that these settings describe."""
        return HMCKernel(self.target_accept_prob)


class RandomWalk(MCMCKernel):
    """Random walk Metropolis, for densities without a gradient.

    Args:
        model: a model; or give ``potential_fn``.
        step_size: first scale of the proposal.
        target_accept_prob: 0.234 in many dimensions, 0.44 in one.
        init_strategy: first values of the latent sites.
        potential_fn: minus a log density of unconstrained tensors by name.
    """

    needs_gradient = False

    def __init__(
        self,
        model: Fn | None = None,
        step_size: float = 0.1,
        target_accept_prob: float = 0.234,
        init_strategy: Init = init_to_uniform,
        potential_fn: PotentialFn | None = None,
    ) -> None:
        super().__init__(
            model,
            potential_fn=potential_fn,
            step_size=step_size,
            target_accept_prob=target_accept_prob,
            init_strategy=init_strategy,
        )

    def transition(self) -> RandomWalkKernel:
        """The state machine that these settings describe."""
        return RandomWalkKernel(self.target_accept_prob)


#: Options of Pyro's kernels that need no answer here, and the one value of each that can be meant.
_PYRO_OPTIONS: dict[str, tuple[Any, ...] | None] = {
    "jit_compile": None,
    "jit_options": None,
    "ignore_jit_warnings": None,
    "max_plate_nesting": None,
    "transforms": None,
    "use_multinomial_sampling": (True,),
}


#: What NumPyro calls otherwise.
_NUMPYRO_OPTIONS = {
    "dense_mass": "full_mass",
    "num_warmup": "warmup_steps",
    "progress_bar": "progress",
    "trajectory": "trajectory_length",
}

#: The same as above for Pyro's MCMC.
_PYRO_RUN_OPTIONS: dict[str, tuple[Any, ...] | None] = {
    "disable_validation": None,
    "mp_context": None,
    "save_params": (None,),
}


#: The same for Pyro's ``initialize_model``.
_PYRO_BRIDGE_OPTIONS: dict[str, tuple[Any, ...] | None] = {
    "initial_params": (None, {}),
    "jit_compile": None,
    "jit_options": None,
    "max_plate_nesting": None,
    "skip_jit_warnings": None,
    "transforms": (None, {}),
}


def check_pyro_bridge_options(options: Mapping[str, Any]) -> None:
    """Take the options of Pyro's ``initialize_model`` that need no answer here.

    Raises:
        InferenceTypeError: an option is unknown.
        UnsupportedError: it asks for something.
    """
    _check_pyro_options("initialize_model", options, _PYRO_BRIDGE_OPTIONS)


def check_pyro_run_options(options: Mapping[str, Any]) -> None:
    """Take the options of Pyro's MCMC that need no answer here.

    Raises:
        InferenceTypeError: an option is unknown.
        UnsupportedError: it asks for something.
    """
    _check_pyro_options("MCMC", options, _PYRO_RUN_OPTIONS)


def _check_pyro_options(
    owner: str, options: Mapping[str, Any], known: Mapping[str, tuple[Any, ...] | None] = _PYRO_OPTIONS
) -> None:
    for name, value in options.items():
        if name not in known:
            here = _NUMPYRO_OPTIONS.get(name)
            hint = f"; here it is {here}" if here else nearest(name, known) or "; leave it out"
            raise InferenceTypeError(f"{owner}: expected known options, got '{name}'{hint}")
        allowed = known[name]
        if allowed is not None and value not in allowed:
            raise UnsupportedError(f"{owner}: expected {name} to be left out, got {value!r}; leave it out")


def _positive(owner: str, name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or math.isinf(value):
        raise InferenceError(f"{owner}: expected {name} > 0, got {value!r}")
    return value


def as_tensors(params: Mapping[str, Any]) -> dict[str, Tensor]:
    """Initial parameters as tensors."""
    return {name: torch.as_tensor(value) for name, value in params.items()}
