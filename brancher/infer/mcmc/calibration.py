"""Simulation-based calibration: does a sampler find the posteriors of data that the model itself made?

Sources: Talts, Betancourt, Simpson, Vehtari, Gelman 2018, arXiv:1804.06788, algorithm 2 (ranks); Modrák et
al. 2023, "Simulation-based calibration checking for Bayesian computation" (the joint density as a quantity
to test, which sees faults that the parameters' own ranks miss).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from brancher.distributions.validation import validation_enabled
from brancher.errors import BrancherWarning, InferenceError, InferenceTypeError, UnknownNameError, nearest
from brancher.frames import draws_frame, entries_frame
from brancher.handlers import condition, trace, uncondition
from brancher.infer.diagnostics import ess_bulk
from brancher.infer.mcmc import rng
from brancher.infer.mcmc.engine import STATS, Compile, make_engine, plain_density
from brancher.infer.mcmc.kernels import MCMCKernel
from brancher.infer.mcmc.potential import Potential
from brancher.infer.mcmc.progress import Progress
from brancher.infer.mcmc.sampler import Sampler
from brancher.infer.mcmc.start import find_start
from brancher.infer.particles import probing
from brancher.infer.predictive import Predictive

if TYPE_CHECKING:
    import pandas as pd

_LOG_JOINT = "log_joint"
_MOST_BINS = 16
_ENOUGH = 15  # draws below which their effective number is too noisy to warn about
_LEAST_IN_A_BIN = 10  # simulations expected in each bin of the test, for the chi-square law to hold


class SBC:
    """Simulation-based calibration of a kernel on a model.

    Parameters and data are drawn from the model; the kernel then samples the posterior of each simulated data
    set, all of them at once. Where everything is right, the rank of the true value among the draws is
    uniform. A model, a kernel or a parametrisation that is wrong or too hard shows in the ranks.

    Args:
        kernel: `NUTS`, `HMC` or `RandomWalk` of a model.
        observed: names of the sites that are data; None for the sites that the model's arguments observe.
        num_simulations: data sets, > 1.
        num_samples: draws kept of each posterior, > 0; ranks go from 0 to ``num_samples``.
        thin: transitions from one kept draw to the next, so that kept draws are all but independent.
        warmup_steps: of each posterior.
        compile: as in `MCMC`.
        seed: of simulations and chains; by default drawn from torch's generator.
        progress: whether to show a bar.

    Attributes:
        ranks: after `run`, ranks by site, ``(num_simulations, *site)``, and of the log joint density.

    Raises:
        InferenceError: a number is out of range.
        InferenceTypeError: the kernel is none, or has no model of its own.

    Example:
        >>> from brancher.infer import NUTS, SBC
        >>> def model(y=None):
        ...     mu = sample("mu", dist.Normal(0.0, 1.0))
        ...     sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> kernel = NUTS(model, step_size=1.0, max_tree_depth=3)
        >>> sbc = SBC(kernel, ["y"], 40, 3, warmup_steps=20, compile=False, seed=0, progress=False)
        >>> sbc.run()
        >>> list(sbc.table().index)
        ['mu', 'log_joint']
    """

    def __init__(
        self,
        kernel: MCMCKernel,
        observed: Sequence[str] | None = None,
        num_simulations: int = 320,
        num_samples: int = 127,
        *,
        thin: int = 4,
        warmup_steps: int = 300,
        compile: Compile = "auto",
        seed: int | None = None,
        progress: bool = True,
    ) -> None:
        if not isinstance(kernel, MCMCKernel) or kernel.model is None or kernel.shares_chains:
            raise InferenceTypeError(
                f"SBC: expected NUTS(model), HMC(model) or RandomWalk(model), got {type(kernel).__name__}; "
                "each simulation is a chain of its own"
            )
        counts = {"num_simulations": (num_simulations, 2), "num_samples": (num_samples, 1), "thin": (thin, 1)}
        for name, (value, least) in (counts | {"warmup_steps": (warmup_steps, 0)}).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InferenceError(f"SBC: expected {name} as an int >= {least}, got {value!r}")
        self.kernel = kernel
        self.observed = None if observed is None else list(observed)
        self.num_simulations, self.num_samples, self.thin = num_simulations, num_samples, thin
        self.warmup_steps, self.compile = warmup_steps, compile
        self.seed, self.progress = seed, progress
        self.ranks: dict[str, Tensor] = {}
        self._ess: dict[str, Tensor] = {}
        self._density: Potential | None = None

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Simulate and sample, for the model called with these arguments.

        Raises:
            UnknownNameError: a name in ``observed`` is no site of the model.
            InferenceError: nothing is observed.
        """
        model = self.kernel.model
        names = self._observed_names(args, kwargs)
        seed = int(torch.randint(2**62, ())) if self.seed is None else self.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            prior = Predictive(uncondition(model), num_samples=self.num_simulations)
            drawn = {name: value.detach() for name, value in prior(*args, **kwargs).items()}
        density = _Simulated(model, args, kwargs, {name: drawn[name] for name in names}, self.kernel)
        truth = density.unconstrain(drawn)
        sampler = self._sample(density, seed, truth)
        rows, stats = sampler.draws()
        rows, stats = rows[:, self.thin - 1 :: self.thin], stats[:, self.thin - 1 :: self.thin]
        self._rank(density, drawn, rows)
        self._add(_LOG_JOINT, stats[..., STATS.index("log_prob")], density.log_prob(truth).detach())
        self._density = density.inner
        self._warn()

    def table(self) -> pd.DataFrame:
        """One row an entry, and one for the log joint density.

        Returns:
            ``mean_rank`` (0.5 where calibrated), ``chi2`` with ``dof`` degrees of freedom, ``p_value`` of
            uniform ranks, and ``ess``: the median effective sample size of the kept draws.
        """
        self._require_run()
        columns = {name: self._test(name) for name in self.ranks}
        density = self._density
        return entries_frame(columns, getattr(density, "dims", None), getattr(density, "coords", None))

    def to_frame(self) -> pd.DataFrame:
        """Ranks: one row a simulation, one column an entry."""
        self._require_run()
        density = self._density
        dims, coords = getattr(density, "dims", None), getattr(density, "coords", None)
        return draws_frame(self.ranks, ("simulation",), dims, coords)

    def __str__(self) -> str:
        if not self.ranks:
            return f"SBC of {type(self.kernel).__name__}, not run"
        return self.table().to_string(float_format="{:.3g}".format)

    def _observed_names(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        with probing():
            record = trace(self.kernel.model).get_trace(*args, **kwargs)
        sites = [site.name for site in record.sites("sample")]
        names = record.observation_nodes if self.observed is None else self.observed
        for name in names:
            if name not in sites:
                raise UnknownNameError(
                    f"SBC observed '{name}': expected one of the sites {sites}, got '{name}'"
                    f"{nearest(name, sites)}"
                )
        if not names:
            raise InferenceError(
                f"SBC: expected observed sites, got none; name them: SBC(kernel, observed=[...]) of {sites}"
            )
        return names

    def _sample(self, density: _Simulated, seed: int, truth: Tensor) -> Sampler:
        make = make_engine if self.kernel.needs_gradient else plain_density
        engine = make(self.kernel.transition(), density.log_prob, truth, self.compile)
        chains = torch.arange(self.num_simulations, device=truth.device)
        keys = rng.chain_keys(seed, chains)
        start = find_start(density.inner, engine.gradient, keys, self.kernel.init_strategy)
        settings = self.kernel.settings(self.warmup_steps)
        sampler = Sampler(self.kernel.transition(), engine, settings, seed, chains, start.contiguous())
        total = self.num_samples * self.thin
        with Progress(total + self.warmup_steps, 0, self.warmup_steps, self.progress) as bar:
            sampler.run(total, bar.update)
        return sampler

    def _rank(self, density: _Simulated, drawn: Mapping[str, Tensor], rows: Tensor) -> None:
        self.ranks, self._ess = {}, {}
        simulations, count, dim = rows.shape
        values = density.inner.constrain(rows.reshape(-1, dim))
        for slot in density.inner.slots:
            value = values[slot.name]
            self._add(slot.name, value.reshape(simulations, count, *value.shape[1:]), drawn[slot.name])

    def _add(self, name: str, draws: Tensor, truth: Tensor) -> None:
        self.ranks[name] = (draws < truth[:, None]).sum(1)
        if draws.shape[1] >= 4:
            # Simulations stand where entries of a site do: each is judged as a chain of its own.
            self._ess[name] = ess_bulk(draws.movedim(1, 0)[None]).nanmedian(0).values
        else:
            self._ess[name] = torch.full(truth.shape[1:], float("nan"))

    def _test(self, name: str) -> dict[str, Tensor]:
        ranks = self.ranks[name]
        bins = self._bins()
        counts = torch.stack([(ranks * bins // (self.num_samples + 1) == b).sum(0) for b in range(bins)])
        expected = self.num_simulations / bins
        chi2 = ((counts - expected).square() / expected).sum(0)
        dof = torch.full_like(chi2, bins - 1)
        return {
            "mean_rank": ranks.double().mean(0) / self.num_samples,
            "chi2": chi2,
            "dof": dof,
            "p_value": torch.special.gammaincc(dof.double() / 2, chi2.double() / 2),
            "ess": self._ess[name],
        }

    def _bins(self) -> int:
        """The most bins of equal width that hold enough simulations each."""
        most = min(_MOST_BINS, max(self.num_simulations // _LEAST_IN_A_BIN, 2))
        ranks = self.num_samples + 1
        return max(bins for bins in range(1, most + 1) if ranks % bins == 0)

    def _warn(self) -> None:
        least = min(
            (float(v.nan_to_num(float("inf")).min()) for v in self._ess.values()), default=float("inf")
        )
        if self.num_samples >= _ENOUGH and least < 0.5 * self.num_samples:
            warnings.warn(
                f"SBC: expected all but independent draws, got {least:.0f} effective ones of "
                f"{self.num_samples}; raise thin",
                BrancherWarning,
                stacklevel=3,
            )

    def _require_run(self) -> None:
        if not self.ranks:
            raise InferenceError("SBC: expected a run, got none; call run(...) first")


class _Simulated:
    """The log densities of one model given many data sets, a chain for each."""

    def __init__(
        self,
        model: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        data: dict[str, Tensor],
        kernel: MCMCKernel,
    ) -> None:
        self.data = data
        self._now = self._row(0)
        free = uncondition(model)

        def given(*args: Any, **kwargs: Any) -> Any:
            return condition(free, data=self._now)(*args, **kwargs)

        self.inner = Potential(given, args, kwargs, type(kernel).__name__)
        count = len(next(iter(data.values())))
        example = self.inner.like.new_zeros(count, self.inner.dim) + 0.1
        self._together = self._agrees(example)

    def log_prob(self, position: Tensor) -> Tensor:
        """Log density in nats, each row given the data of its simulation; ``(C, D) -> (C,)``."""
        if self._together:
            return torch.vmap(self._one)(position, self.data)
        return self._looped(position)

    def unconstrain(self, drawn: Mapping[str, Tensor]) -> Tensor:
        """The vectors of the true values, ``(C, D)``."""
        rows = []
        for i in range(len(next(iter(self.data.values())))):
            self._now = self._row(i)
            rows.append(self.inner.unconstrain({slot.name: drawn[slot.name][i] for slot in self.inner.slots}))
        self._now = self._row(0)
        return torch.stack(rows)

    def _row(self, number: int) -> dict[str, Tensor]:
        return {name: value[number] for name, value in self.data.items()}

    def _one(self, position: Tensor, data: dict[str, Tensor]) -> Tensor:
        kept, self._now = self._now, data
        try:
            return self.inner.log_prob(position[None])[0]
        finally:
            self._now = kept

    def _looped(self, position: Tensor) -> Tensor:
        return torch.stack([self._one(row, self._row(i)) for i, row in enumerate(position)])

    def _agrees(self, position: Tensor) -> bool:
        with probing(), validation_enabled(False):
            alone = torch.stack([self._one(position[i], self._row(i)) for i in range(2)])
            try:
                together = torch.vmap(self._one)(position, self.data)
            except Exception:  # whatever a model raises in lanes
                return False
            return torch.allclose(together[:2], alone, rtol=1e-4, atol=1e-4, equal_nan=True)
