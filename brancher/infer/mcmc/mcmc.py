"""``MCMC``: runs a kernel's chains and tells what came of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from brancher.errors import BrancherWarning, InferenceError, InferenceTypeError, UnsupportedError
from brancher.infer.log_likelihood import log_likelihood
from brancher.infer.mcmc import rng
from brancher.infer.mcmc.arguments import check_counts, one_chain, remember, same
from brancher.infer.mcmc.density import FunctionDensity
from brancher.infer.mcmc.engine import STATS, Compile, Engine, make_engine, plain_density
from brancher.infer.mcmc.hook import Hook, HookFn, both, check_hook
from brancher.infer.mcmc.kernels import MCMCKernel, as_tensors, check_pyro_run_options
from brancher.infer.mcmc.parallel import run_parallel
from brancher.infer.mcmc.potential import Potential
from brancher.infer.mcmc.progress import Progress
from brancher.infer.mcmc.report import Report, what_is_wrong
from brancher.infer.mcmc.sampler import Sampler
from brancher.infer.mcmc.start import check_start, find_start
from brancher.infer.samples import Samples
from brancher.params.files import load_state, save_state

if TYPE_CHECKING:
    import pandas as pd

ChainMethod = Literal["vectorized", "sequential", "parallel"]
_METHODS = ("vectorized", "sequential", "parallel")
_KIND = "mcmc run"
_WORTH_COMPILING = 100  # draws, warmup included; below, the compiler would take longer than the run


class MCMC:
    """Runs chains of a kernel, and describes their draws.

    Chain i depends on the seed and on i alone, not on how many chains run beside it (except for `ChEES`,
    whose chains learn together). Runs can be interrupted: draws so far are kept, and `run` goes on.

    Args:
        kernel: `NUTS`, `HMC`, `ChEES`, `RandomWalk`, or one with ``setup`` and ``sample`` of its own.
        num_samples: draws of each chain after warmup, > 0.
        warmup_steps: draws that adapt and are not kept; as many as ``num_samples`` by default.
        initial_params: unconstrained first values by site, with or without a dimension of chains on the left;
            a first dimension of length ``num_chains`` in all of them is that one.
        num_chains: > 0.
        chain_method: ``"vectorized"`` runs chains as one batch, ``"sequential"`` one after the other,
            ``"parallel"`` each in a process of its own (the model must then be importable).
        compile: True, False, or ``"auto"``: compiled for runs of 100 draws and more, eager with one warning
            where the model can not be compiled.
        seed: of the run; by default drawn from torch's generator when the run begins.
        progress: whether to show a bar.
        disable_progbar: Pyro's name for the contrary of ``progress``.
        hook_fn: called for every draw with the kernel, unconstrained values by site, ``"warmup"`` or
            ``"sample"`` and the draw's number; chains that run as one batch are told of together.
        transforms: with ``potential_fn``, by name from the values' own space to the unconstrained one, as
            `initialize_model` gives them; the draws are shown in their own space.
        **pyro_options: see `NUTS`; ``save_params`` is refused.

    Raises:
        InferenceError: a number is out of range.

    Example:
        >>> from brancher.infer import MCMC, HMC
        >>> kernel = HMC(potential_fn=lambda params: 0.5 * (params["x"] ** 2).sum(), trajectory_length=1.5)
        >>> mcmc = MCMC(kernel, 40, 40, {"x": torch.zeros(3)}, num_chains=2, compile=False, progress=False)
        >>> mcmc.run()
        >>> mcmc.get_samples(group_by_chain=True)["x"].shape
        torch.Size([2, 40, 3])
    """

    def __new__(cls, kernel: Any = None, *args: Any, **kwargs: Any) -> MCMC:
        """Make a run; of another class where the kernel draws step by step."""
        from brancher.infer.mcmc.stepwise import StepwiseMCMC, draws_by_steps

        return super().__new__(StepwiseMCMC if cls is MCMC and draws_by_steps(kernel) else cls)

    def __init__(
        self,
        kernel: MCMCKernel,
        num_samples: int,
        warmup_steps: int | None = None,
        initial_params: Mapping[str, Any] | None = None,
        num_chains: int = 1,
        *,
        chain_method: ChainMethod = "vectorized",
        compile: Compile = "auto",
        seed: int | None = None,
        progress: bool = True,
        disable_progbar: bool = False,
        hook_fn: HookFn | None = None,
        transforms: Mapping[str, Transform] | None = None,
        **pyro_options: Any,
    ) -> None:
        check_pyro_run_options(pyro_options)
        if not isinstance(kernel, MCMCKernel):
            raise InferenceTypeError(
                f"MCMC: expected a kernel such as NUTS(model), got {type(kernel).__name__}; wrap the model"
            )
        self.warmup_steps = check_counts(num_samples, warmup_steps, num_chains)
        if chain_method not in _METHODS:
            raise InferenceError(f"MCMC: expected chain_method as one of {_METHODS}, got {chain_method!r}")
        if kernel.potential_fn is not None and not initial_params:
            raise InferenceError(
                "MCMC: expected initial_params with potential_fn, got none; give example values by name"
            )
        if kernel.shares_chains and chain_method != "vectorized":
            raise InferenceError(
                f"{type(kernel).__name__}: expected chain_method='vectorized', got {chain_method!r}"
            )
        check_hook(hook_fn, chain_method)
        self.kernel, self.hook_fn = kernel, hook_fn
        self.transforms = dict(transforms or kernel.transforms)
        if self.transforms and kernel.potential_fn is None:
            raise UnsupportedError(
                "MCMC: expected transforms with a potential_fn, got a model, whose sites have their own; "
                "leave transforms out"
            )
        self.num_samples, self.num_chains = num_samples, num_chains
        self.initial_params = None if initial_params is None else as_tensors(initial_params)
        self.chain_method, self.compile = chain_method, compile
        self.seed, self.progress = seed, progress and not disable_progbar
        self._density: Any = None
        self._samplers: list[Sampler] = []
        self._inputs: list[Any] = []
        self._target = 0
        self._shown: tuple[int, Samples] | None = None

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Draw ``num_samples`` draws a chain for a model called with these arguments.

        Called again with the same arguments, it draws as many again from where the chains are, without
        warmup, and keeps all draws; after an interrupt, it first finishes what was begun. Other arguments
        start anew.

        Raises:
            InferenceError: the model has no latent site, or chains can not start.
            UnsupportedError: a discrete latent site has no finite support, or a plate is subsampled.
        """
        if not self._goes_on(args, kwargs):
            self._begin(args, kwargs)
        if self._drawn() >= self._target:
            self._target += self.num_samples
        try:
            self._advance()
        except KeyboardInterrupt:
            self._tell(
                f"MCMC: interrupted after {self._drawn()} of {self._target} draws, which are kept; "
                "run again to go on"
            )
            return
        wrong = what_is_wrong(self.report())
        if wrong:
            self._tell(wrong)

    def get_samples(self, num_samples: int | None = None, group_by_chain: bool = False) -> Samples:
        """Draws of latent and deterministic sites, in the model's own (constrained) space.

        Args:
            num_samples: how many to draw at random, with replacement, from all chains; None for all in order.
            group_by_chain: whether to keep ``(chains, draws)`` apart.
        """
        grouped = self._grouped()
        if group_by_chain:
            return grouped
        flat = {name: value.flatten(0, 1) for name, value in grouped.items()}
        if num_samples is not None:
            total = next(iter(flat.values())).shape[0]
            rows = torch.randint(total, (num_samples,))
            flat = {name: value[rows] for name, value in flat.items()}
        return Samples(flat, grouped.dims, grouped.coords)

    @property
    def stats(self) -> dict[str, Tensor]:
        """What each draw reported, by ArviZ's names; ``(chains, draws)`` each."""
        _, stats = self._raw()
        found = dict(zip(STATS, stats.unbind(-1), strict=True))
        found["diverging"] = found["diverging"] > 0
        for name in ("n_steps", "tree_depth"):
            found[name] = found[name].long()
        found["lp"] = found.pop("log_prob")
        deepest = getattr(self.kernel, "max_tree_depth", None)
        if deepest is not None:
            found["reached_max_treedepth"] = found["tree_depth"] >= deepest
        return found

    def report(self) -> Report:
        """What the diagnostics say about the run as a whole."""
        return Report.of(self._grouped(), self.stats, self._sites())

    def diagnostics(self) -> dict[str, Any]:
        """Diagnostics by name.

        Returns:
            ``n_eff`` and ``r_hat`` of each site, and by chain the draws that diverged, the acceptance rate,
            the share of saturated trees and E-BFMI.
        """
        return self.report().to_dict()

    def summary(self, prob: float = 0.9) -> pd.DataFrame:
        """One row an entry: mean, sd, median, highest-density interval, MCSE, bulk and tail ESS, R-hat."""
        return self._grouped().summary(prob)

    def to_frame(self) -> pd.DataFrame:
        """One row a draw, one column an entry, labelled by plate coordinates."""
        return self._grouped().to_frame()

    def log_likelihood(self) -> Samples:
        """Log density of every observation under every draw, in nats, ``(chains, draws, *observations)``.

        Raises:
            InferenceError: the run had no model, or nothing is observed.
        """
        if not isinstance(self._density, Potential):
            raise InferenceError(
                "MCMC.log_likelihood: expected a run of a model, got none; call run(...) first"
            )
        latent = [slot.name for slot in self._density.slots]
        draws = Samples({name: self._grouped()[name] for name in latent}, batch_ndims=2)
        return log_likelihood(self._density.model, draws, *self._density.args, **self._density.kwargs)

    def to_arviz(
        self,
        prior: Mapping[str, Tensor] | None = None,
        posterior_predictive: Mapping[str, Tensor] | None = None,
    ) -> Any:
        """The run for ArviZ, with log likelihood, observed data and sampler statistics.

        Args:
            prior: draws of ``Predictive(model, num_samples=...)``, ``(draws, *site)``; those of observed
                sites become the group prior_predictive.
            posterior_predictive: new data for every draw, as ``Predictive(model, get_samples())`` gives.

        Raises:
            MissingExtraError: ArviZ is not installed.
            InferenceError: the predictive draws are not as many as the posterior's.
        """
        from brancher.infer.mcmc.arviz import to_arviz

        return to_arviz(self._grouped(), self.stats, self._density, prior, posterior_predictive)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to a file; one that is there is replaced once the new one is whole."""
        self._raw()
        samplers = [sampler.to_dict() for sampler in self._samplers]
        save_state(path, _KIND, {"target": self._target, "chains": self.num_chains, "samplers": samplers})

    def load(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Take over a saved run of the same kernel; `run` with the same arguments goes on bit for bit.

        Args:
            path: what `save` wrote.
            *args: the model's arguments, as in `run`.
            **kwargs: its keyword arguments.

        Raises:
            FileFormatError: the file is damaged or holds something else.
            InferenceError: the run had another number of chains or latent entries.
        """
        saved = load_state(path, _KIND)
        self._begin(args, kwargs)
        dims = [sampler["state"][3].shape[-1] for sampler in saved["samplers"]]
        if (
            saved["chains"] != self.num_chains
            or len(saved["samplers"]) != len(self._samplers)
            or dims[0] != self._density.dim
        ):
            raise InferenceError(
                f"MCMC.load: expected a run of {self.num_chains} chains with {self._density.dim} latent "
                f"entries, got {saved['chains']} with {dims[0]}; make the MCMC as it was when saved"
            )
        for sampler, state in zip(self._samplers, saved["samplers"], strict=True):
            sampler.load_dict(state)
        self._target, self._shown = int(saved["target"]), None

    def __str__(self) -> str:
        if not self._samplers:
            return f"{type(self.kernel).__name__}, {self.num_chains} chains, not run"
        table = self.summary().to_string(float_format="{:.3g}".format)
        return f"{table}\n\n{self.report()}"

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        density = self._make_density(args, kwargs)
        size = 1 if self.chain_method != "vectorized" else self.num_chains
        example = torch.zeros(size, density.dim, dtype=density.like.dtype, device=density.like.device)
        density.prepare(example)
        engine = self._make_engine(density, example)
        state = torch.get_rng_state()
        seed = int(torch.randint(2**62, ())) if self.seed is None else self.seed
        try:
            chains = torch.arange(self.num_chains, device=example.device)
            position = self._positions(density, engine, seed, chains, size)
        except InferenceError:
            torch.set_rng_state(state)
            raise
        settings, transition = self.kernel.settings(self.warmup_steps), self.kernel.transition()
        starts = zip(chains.split(size), position.split(size), strict=True)
        self._samplers = [
            Sampler(transition, engine, settings, seed, lane, start.contiguous()) for lane, start in starts
        ]
        self._density, self._inputs = density, remember(args, kwargs)
        self._target, self._shown = 0, None

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sampler:
        """The sampler of a single chain, not yet run; for a process that takes over another's state."""
        self._begin(args, kwargs)
        return self._samplers[0]

    def _make_density(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.kernel.model is not None:
            density = Potential(
                self.kernel.model, args, kwargs, type(self.kernel).__name__, sums_discrete=True
            )
            if self.initial_params is not None:
                density.check_names(self.initial_params)
            return density
        if args or kwargs:
            self._tell(
                "MCMC.run: expected no arguments with potential_fn, got some, which have no effect; close "
                "over the data"
            )
        params = one_chain(self.initial_params or {}, self.num_chains)
        return FunctionDensity(self.kernel.potential_fn, params, self.transforms)  # type: ignore[arg-type]

    def _make_engine(self, density: Any, example: Tensor) -> Engine:
        is_short = self.num_samples + self.warmup_steps < _WORTH_COMPILING
        compile: Compile = False if self.compile == "auto" and is_short else self.compile
        make = make_engine if self.kernel.needs_gradient else plain_density
        return make(self.kernel.transition(), density.log_prob, example, compile)

    def _positions(self, density: Any, engine: Engine, seed: int, chains: Tensor, size: int) -> Tensor:
        parts = []
        given = None if self.initial_params is None else density.pack(self.initial_params, self.num_chains)
        for i in range(0, self.num_chains, size):
            if given is None:
                keys = rng.chain_keys(seed, chains[i : i + size])
                parts.append(find_start(density, engine.gradient, keys, self.kernel.init_strategy))
            else:
                check_start(density, engine.gradient, given[i : i + size].contiguous())
                parts.append(given[i : i + size])
        return torch.cat(parts)

    def _advance(self) -> None:
        self._shown = None
        total = (self.warmup_steps + self._target) * len(self._samplers)
        done = sum(sampler.num_done for sampler in self._samplers)
        with Progress(total, done, self.warmup_steps, self.progress) as bar:
            if self.chain_method == "parallel":
                run_parallel(self, self._samplers, self._target, bar)
                return
            for sampler in self._samplers:
                hook = self._hook(sampler)
                sampler.run(self._target, bar.update if hook is None else both(bar.update, hook.update))

    def _hook(self, sampler: Sampler) -> Hook | None:
        return self.hook_fn and Hook(self.hook_fn, self.kernel, self._density, sampler)

    def _goes_on(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        return bool(self._samplers) and same(self._inputs, remember(args, kwargs))

    def _drawn(self) -> int:
        return min(max(sampler.num_done - self.warmup_steps, 0) for sampler in self._samplers)

    def _raw(self) -> tuple[Tensor, Tensor]:
        if not self._samplers:
            raise InferenceError("MCMC: expected a run, got none; call run(...) first")
        parts = [sampler.draws() for sampler in self._samplers]
        count = min(draws.shape[1] for draws, _ in parts)
        draws = torch.cat([draws[:, :count] for draws, _ in parts])
        return draws, torch.cat([stats[:, :count] for _, stats in parts])

    def _grouped(self) -> Samples:
        chains, count, dim = (draws := self._raw()[0]).shape
        if self._shown is None or self._shown[0] != count:
            if count == 0:
                raise InferenceError("MCMC: expected draws, got none yet; run again to go on")
            values = self._density.constrain(draws.reshape(-1, dim))
            grouped = {name: value.reshape(chains, count, *value.shape[1:]) for name, value in values.items()}
            dims = {name: self._density.dims.get(name, ()) for name in grouped}
            dims = {name: names for name, names in dims.items() if names or grouped[name].dim() == 2}
            self._shown = count, Samples(grouped, dims, self._density.coords, 2)
        return self._shown[1]

    def _sites(self) -> list[str]:
        """Names of the sites whose diagnostics count: the latent ones."""
        deterministic = getattr(self._density, "deterministic", [])
        return [name for name in self._grouped() if name not in deterministic]

    def _tell(self, text: str) -> None:
        warnings.warn(text, BrancherWarning, stacklevel=3)
