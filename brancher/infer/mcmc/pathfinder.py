"""Pathfinder: a normal approximation found on the way to the mode, from several starts.

Source: Zhang, Carpenter, Gelman, Vehtari 2022, "Pathfinder: Parallel quasi-Newton variational inference",
JMLR 23(306): algorithm 1 (single path) and section 2.4 (several paths, resampled by importance).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from brancher.errors import BrancherWarning, InferenceError
from brancher.infer.diagnostics import psis
from brancher.infer.initialization import Init, init_to_uniform
from brancher.infer.mcmc import rng
from brancher.infer.mcmc.engine import Compile, make_gradient
from brancher.infer.mcmc.potential import Potential
from brancher.infer.mcmc.quasi_newton import Normal, Point, climb, normal_at
from brancher.infer.mcmc.start import find_start
from brancher.infer.mcmc.state import pick_all
from brancher.infer.samples import Samples

if TYPE_CHECKING:
    import pandas as pd

_TRUSTED = 0.7
_PATIENCE = 50  # iterates without a better bound after which no better one is looked for


class Pathfinder:
    """An approximate posterior in seconds: for a first look, and for starts of `MCMC`.

    Each path climbs the log density by L-BFGS. At every iterate the optimizer's own curvature gives a normal
    law; the one with the best evidence lower bound is the path's. Draws of all paths are then resampled by
    Pareto smoothed importance weights.

    Args:
        model: a model; discrete latent sites with a finite support are summed out.
        num_paths: starts, > 0.
        num_samples: draws to keep, > 0; each path makes as many before they are resampled.
        max_iterations: most iterates of a path.
        history: steps that the curvature is learnt from.
        num_elbo_draws: draws that estimate the bound at an iterate.
        init_strategy: where paths start.
        compile: True, False, or ``"auto"``: whether the gradient is compiled. A run takes hundreds of
            gradients, so that compiling pays only for costly models.
        seed: of the run; by default drawn from torch's generator.

    Attributes:
        pareto_k: shape of the importance weights' tail; above 0.7 the draws are not the posterior's.
        elbo: best bound of each path in nats, ``(num_paths,)``.

    Raises:
        InferenceError: a number is out of range.

    Example:
        >>> from brancher.infer import Pathfinder
        >>> def model(y):
        ...     mu = sample("mu", dist.Normal(0.0, 10.0))
        ...     with plate("row", len(y)):
        ...         sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> paths = Pathfinder(model, seed=0)
        >>> paths.run(torch.tensor([1.0, 2.0, 3.0]))
        >>> paths.get_samples()["mu"].mean()
        tensor(2.0)
    """

    def __init__(
        self,
        model: Callable[..., Any],
        num_paths: int = 4,
        num_samples: int = 1000,
        *,
        max_iterations: int = 1000,
        history: int = 6,
        num_elbo_draws: int = 25,
        init_strategy: Init = init_to_uniform,
        compile: Compile = False,
        seed: int | None = None,
    ) -> None:
        counts = {"num_paths": num_paths, "num_samples": num_samples, "max_iterations": max_iterations}
        for name, value in (counts | {"history": history, "num_elbo_draws": num_elbo_draws}).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InferenceError(f"Pathfinder: expected {name} as an int >= 1, got {value!r}")
        self.model = model
        self.num_paths, self.num_samples = num_paths, num_samples
        self.max_iterations, self.history = max_iterations, history
        self.num_elbo_draws = num_elbo_draws
        self.init_strategy, self.compile, self.seed = init_strategy, compile, seed
        self.elbo = torch.empty(0)
        self.pareto_k = math.nan
        self._found: Samples | None = None

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Approximate the posterior of the model called with these arguments.

        Raises:
            UnsupportedError: the model has discrete latent sites or subsampled plates.
            NonFiniteError: no start with a finite density was found, or no path left its start.
        """
        density = Potential(self.model, args, kwargs, "Pathfinder", sums_discrete=True)
        example = density.like.new_zeros(self.num_paths, density.dim)
        density.prepare(example.expand(max(self.num_paths, 2), -1))
        gradient = make_gradient(density.log_prob, example, self.compile)
        seed = int(torch.randint(2**62, ())) if self.seed is None else self.seed
        keys = rng.chain_keys(seed, torch.arange(self.num_paths, device=example.device))
        start = find_start(density, gradient, keys, self.init_strategy)
        generator = torch.Generator(device=example.device).manual_seed(seed)
        best = self._best(density, gradient, start, generator)
        rows, weights = self._weigh(density, best, generator)
        chosen = torch.multinomial(weights, self.num_samples, replacement=True, generator=generator)
        self._found = Samples(density.constrain(rows[chosen]), density.dims, density.coords)
        if not self.pareto_k <= _TRUSTED:
            warnings.warn(
                f"Pathfinder: expected Pareto k <= {_TRUSTED}, got {self.pareto_k:.2f}; the posterior is not "
                "close to normal: use the draws as starts of MCMC, or reparametrise",
                BrancherWarning,
                stacklevel=2,
            )

    def get_samples(self, num_samples: int | None = None) -> Samples:
        """Draws of latent and deterministic sites, in the model's own (constrained) space.

        Args:
            num_samples: how many to take at random, with replacement; None for all.
        """
        if self._found is None:
            raise InferenceError("Pathfinder: expected a run, got none; call run(...) first")
        if num_samples is None:
            return self._found
        rows = torch.randint(self.num_samples, (num_samples,))
        picked = {name: value[rows] for name, value in self._found.items()}
        return Samples(picked, self._found.dims, self._found.coords)

    def summary(self, prob: float = 0.9) -> pd.DataFrame:
        """One row an entry: mean, sd, median and highest-density interval."""
        return self.get_samples().summary(prob)

    def to_frame(self) -> pd.DataFrame:
        """One row a draw, one column an entry, labelled by plate coordinates."""
        return self.get_samples().to_frame()

    def _best(self, density: Potential, gradient: Any, start: Tensor, generator: torch.Generator) -> Normal:
        """The normal law of each path with the largest bound."""
        best: Normal | None = None
        elbo = start.new_full((self.num_paths,), -math.inf)
        stale = 0
        for point in climb(gradient, start, self.max_iterations, self.history):
            law = normal_at(point)
            now = self._bound(density, point, law, generator)
            better = now > elbo
            best = law if best is None else pick_all(better, law, best)
            elbo = torch.where(better, now, elbo)
            stale = 0 if bool(better.any()) or not bool(torch.isfinite(elbo).all()) else stale + 1
            if stale == _PATIENCE:
                break
        if best is None or not bool(torch.isfinite(elbo).any()):
            raise InferenceError(
                "Pathfinder: expected a path with a finite bound, got none; the density may be flat or rough "
                "there: give another init_strategy, or use MCMC"
            )
        self.elbo = elbo
        good = torch.isfinite(elbo)
        return Normal(*(part[good] for part in best))

    def _bound(self, density: Potential, point: Point, law: Normal, generator: torch.Generator) -> Tensor:
        paths, dim = point.position.shape
        draws, log_q = law.draw(_noise((paths, self.num_elbo_draws, dim), point.position, generator))
        bound = (_log_prob(density, draws.reshape(-1, dim)).reshape(paths, -1) - log_q).mean(-1)
        bound = torch.nan_to_num(bound, nan=-math.inf)
        return torch.where(point.active, bound, torch.full_like(bound, -math.inf))

    def _weigh(self, density: Potential, law: Normal, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws of all paths, ``(N, D)``, and their importance weights."""
        paths, dim = law.mean.shape
        draws, log_q = law.draw(_noise((paths, self.num_samples, dim), law.mean, generator))
        rows = draws.reshape(-1, dim)
        ratio = (_log_prob(density, rows) - log_q.flatten()).double()
        smoothed, k = psis(ratio[:, None])
        self.pareto_k = float(k[0])
        return rows, smoothed[:, 0].exp()


def _noise(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _log_prob(density: Potential, rows: Tensor, batch: int = 4096) -> Tensor:
    with torch.no_grad():
        values = torch.cat([density.log_prob(part) for part in rows.split(batch)])
    return torch.nan_to_num(values, nan=-math.inf, posinf=-math.inf)
