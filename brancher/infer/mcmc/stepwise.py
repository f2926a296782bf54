"""Runs with a kernel of a program's own, which draws one step after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from brancher.errors import InferenceError, InferenceTypeError, UnsupportedError
from brancher.infer.diagnostics import effective_sample_size, split_gelman_rubin
from brancher.infer.mcmc.arguments import check_counts
from brancher.infer.mcmc.hook import HookFn, check_hook
from brancher.infer.mcmc.kernels import MCMCKernel, as_tensors, check_pyro_run_options
from brancher.infer.mcmc.mcmc import MCMC
from brancher.infer.mcmc.progress import Progress
from brancher.infer.samples import Samples

Draw = dict[str, Tensor]


def draws_by_steps(kernel: Any) -> bool:
    """Whether a kernel has a ``setup`` and a ``sample`` of its own, as Pyro's kernels have."""
    has_steps = callable(getattr(kernel, "setup", None)) and callable(getattr(kernel, "sample", None))
    return has_steps and not isinstance(kernel, (MCMCKernel, type))


class StepwiseMCMC(MCMC):
    """What ``MCMC`` is for a kernel of a program's own: chains run eagerly, one after the other.

    The kernel's ``setup(warmup_steps, *args, **kwargs)`` is called before each chain, ``sample(params)`` for
    each draw, ``end_warmup()``, and ``cleanup()`` at the end; ``initial_params`` is where a chain begins.

    Args:
        kernel: the kernel.
        num_samples: draws of each chain after warmup, > 0.
        warmup_steps: draws that are not kept; as many as ``num_samples`` by default.
        initial_params: first values by site, with a dimension of chains on the left where there are several;
            the kernel's own ``initial_params`` by default.
        num_chains: > 0.
        seed: for torch's generator, which is put back after the run; None to go on with it.
        progress: whether to show a bar.
        disable_progbar: Pyro's name for the contrary of ``progress``.
        hook_fn: called for every draw with the kernel, the draw, ``"warmup"`` or ``"sample"`` and its number.
        transforms: by name from the values' own space to that of the kernel's draws; the kernel's own by
            default.
        **pyro_options: see :class:`MCMC`.

    Raises:
        InferenceError: a number is out of range, or there is no first value.
    """

    kernel: Any

    def __init__(
        self,
        kernel: Any,
        num_samples: int,
        warmup_steps: int | None = None,
        initial_params: Mapping[str, Any] | None = None,
        num_chains: int = 1,
        *,
        seed: int | None = None,
        progress: bool = True,
        disable_progbar: bool = False,
        hook_fn: HookFn | None = None,
        transforms: Mapping[str, Transform] | None = None,
        **pyro_options: Any,
    ) -> None:
        check_pyro_run_options(pyro_options)
        self.warmup_steps = check_counts(num_samples, warmup_steps, num_chains)
        check_hook(hook_fn, "sequential")
        self.kernel, self.hook_fn, self.seed = kernel, hook_fn, seed
        self.num_samples, self.num_chains = num_samples, num_chains
        self.initial_params = None if initial_params is None else as_tensors(initial_params)
        self.transforms = dict(transforms or getattr(kernel, "transforms", None) or {})
        self.progress, self.chain_method = progress and not disable_progbar, "sequential"
        self._draws: Samples | None = None
        self._told: list[dict[str, Any]] = []

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Draw ``num_samples`` draws a chain for a model called with these arguments, anew at every call.

        Raises:
            InferenceError: there is no first value, or a draw has other sites than the one before.
            InferenceTypeError: a draw is no dict of tensors.
        """
        total = (self.warmup_steps + self.num_samples) * self.num_chains
        with (
            torch.random.fork_rng(enabled=self.seed is not None),
            Progress(total, 0, self.warmup_steps, self.progress) as bar,
        ):
            if self.seed is not None:
                torch.manual_seed(self.seed)
            self._told = []
            chains = [self._chain(number, bar, args, kwargs) for number in range(self.num_chains)]
        raw = {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}
        shown = {
            name: self.transforms[name].inv(value) if name in self.transforms else value
            for name, value in raw.items()
        }
        self._draws = Samples(shown, batch_ndims=2)

    def _chain(self, number: int, bar: Progress, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Draw:
        kernel = self.kernel
        if self.initial_params is not None:
            several = self.num_chains > 1
            kernel.initial_params = {
                name: value[number] if several else value for name, value in self.initial_params.items()
            }
        kernel.setup(self.warmup_steps, *args, **kwargs)
        params = getattr(kernel, "initial_params", None)
        if params is None:
            raise InferenceError(
                f"MCMC: expected first values for {type(kernel).__name__}, got none; give initial_params, or "
                "let its setup set initial_params"
            )
        rows: list[Draw] = []
        for step in range(self.warmup_steps + self.num_samples):
            if step == self.warmup_steps:
                getattr(kernel, "end_warmup", _nothing)()
            params = self._checked(kernel.sample(params), params)
            is_warmup = step < self.warmup_steps
            if not is_warmup:
                rows.append({name: value.detach().clone() for name, value in params.items()})
            if self.hook_fn is not None:
                stage = ("warmup", step) if is_warmup else ("sample", step - self.warmup_steps)
                self.hook_fn(kernel, params, *stage)
            bar.advance(1)
        self._told.append(dict(getattr(kernel, "diagnostics", dict)()))
        getattr(kernel, "cleanup", _nothing)()
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _checked(self, drawn: Any, before: Mapping[str, Tensor]) -> Draw:
        owner = type(self.kernel).__name__
        if not isinstance(drawn, Mapping) or not all(isinstance(v, Tensor) for v in drawn.values()):
            raise InferenceTypeError(
                f"{owner}.sample: expected a dict of tensors by site, got {type(drawn).__name__}; return the "
                "draw"
            )
        if drawn.keys() != before.keys():
            raise InferenceError(
                f"{owner}.sample: expected sites {sorted(before)}, got {sorted(drawn)}; return all of them"
            )
        return dict(drawn)

    def diagnostics(self) -> dict[str, Any]:
        """``n_eff`` and ``r_hat`` of each site, and by chain what the kernel's ``diagnostics`` tell."""
        table: dict[str, Any] = {
            name: {"n_eff": effective_sample_size(value), "r_hat": split_gelman_rubin(value)}
            for name, value in self._grouped().items()
        }
        for key in self._told[0]:
            table[key] = {f"chain {chain}": told.get(key) for chain, told in enumerate(self._told)}
        return table

    def _grouped(self) -> Samples:
        if self._draws is None:
            raise InferenceError("MCMC: expected a run, got none; call run(...) first")
        return self._draws

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(
            f"MCMC: expected NUTS, HMC or another kernel of brancher.infer for this, got "
            f"{type(self.kernel).__name__}; take get_samples, summary, to_frame or diagnostics"
        )

    stats = property(_refuse)
    report = log_likelihood = to_arviz = save = load = _refuse

    def __str__(self) -> str:
        table = "not run" if self._draws is None else self.summary().to_string(float_format="{:.3g}".format)
        return f"{type(self.kernel).__name__}, {self.num_chains} chains, {table}"


def _nothing() -> None:
    pass
