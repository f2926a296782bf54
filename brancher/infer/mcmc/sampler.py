"""The run of all chains of one batch: warmup by windows, then draws, in calls short enough to interrupt.

Everything that the next draw depends on lies in `Sampler.to_dict`, so a run that was saved between two calls
goes on bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from brancher.infer.mcmc import chees, mass, rng, stepsize
from brancher.infer.mcmc.engine import STATS, Buffers, Engine, Orders
from brancher.infer.mcmc.integrator import Metric, Phase
from brancher.infer.mcmc.state import Chain, Kernel
from brancher.infer.mcmc.warmup import Window, windows

_SECONDS_A_CALL = 0.2
_PROBE_LANE = 1 << 24  # random numbers for the first guess of a step, apart from the trajectories' own
_LEAST_ACCEPT = 0.01  # of a chain, for the harmonic mean: one stuck chain in hundreds must not rule the rest
_STEPS = STATS.index("n_steps")


@dataclass(frozen=True)
class Settings:
    """How a run adapts.

    Args:
        warmup_steps: draws of warmup a chain.
        step_size: first step size.
        adapt_step_size: whether warmup adapts it.
        adapt_mass: whether warmup adapts the mass matrix.
        mass: ``"diag"``, ``"dense"`` or ``"grads"`` (diagonal, from draws and gradients).
        shared: whether chains share trajectory length, step and mass (ChEES).
    """

    warmup_steps: int
    step_size: float = 1.0
    adapt_step_size: bool = True
    adapt_mass: bool = True
    mass: str = "diag"
    shared: bool = False


class Sampler:
    """Chains in one batch.

    Args:
        kernel: the transition.
        engine: what runs it.
        settings: how it adapts.
        seed: of the run.
        chains: the chains' numbers, int64 ``(C,)``.
        position: where they start, ``(C, D)``.
    """

    def __init__(
        self, kernel: Kernel, engine: Engine, settings: Settings, seed: int, chains: Tensor, position: Tensor
    ) -> None:
        self.kernel, self.engine, self.settings = kernel, engine, settings
        self.plan = windows(settings.warmup_steps)
        count, dim = position.shape
        log_prob, grad = engine.gradient(position)
        keys = rng.chain_keys(seed, chains)
        none = torch.zeros_like(chains)
        step = stepsize.start(torch.full_like(log_prob, settings.step_size))
        chain = Chain(keys, none, none.clone(), position.clone(), grad.clone(), log_prob.clone(), step)
        self.state: Any = kernel.init(chain)
        self.metric: Metric = mass.unit_metric(count, dim, settings.mass == "dense", position)
        self.window = 0
        self.moments = self._no_moments()
        self.buffers: Buffers | None = None
        self.base = 0
        self.blocks: list[tuple[Tensor, Tensor]] = []
        self.trajectory: chees.Trajectory | None = None
        self._budget = 16
        if settings.adapt_step_size and settings.warmup_steps:
            self._guess_step()

    @property
    def num_warm(self) -> int:
        """Warmup draws finished by every chain."""
        return min(self.num_done, self.settings.warmup_steps)

    @property
    def num_done(self) -> int:
        """Draws finished by every chain, warmup included."""
        return int(self.state.chain.drawn.min())

    @property
    def step_size(self) -> Tensor:
        """The step size of each chain."""
        return self.state.chain.step.log_step.exp()  # type: ignore[no-any-return]

    def run(self, draws: int, report: Callable[[Sampler], None] = lambda sampler: None) -> None:
        """Go on until every chain has ``draws`` draws after warmup; may be interrupted and called again."""
        while self.window < len(self.plan):
            window = self.plan[self.window]
            self._fill(window.end, window, report)
            self._end_window(window)
            self.window += 1
        self._fill(self.settings.warmup_steps + draws, None, report)

    def draws(self) -> tuple[Tensor, Tensor]:
        """Draws after warmup and what they reported, ``(C, N, D)`` and ``(C, N, 7)``."""
        blocks = list(self.blocks)
        if self.buffers is not None and self.base >= self.settings.warmup_steps:
            rows = self.num_done - self.base
            blocks.append((self.buffers.draws[:, :rows], self.buffers.stats[:, :rows]))
        if not blocks:
            like = self.state.chain.position
            count, dim = like.shape
            return like.new_zeros(count, 0, dim), like.new_zeros(count, 0, len(STATS))
        return torch.cat([b[0] for b in blocks], dim=1), torch.cat([b[1] for b in blocks], dim=1)

    def to_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, as nested containers of tensors and numbers."""
        flat = pytree.tree_leaves(self.state)
        trajectory = None if self.trajectory is None else vars(self.trajectory)
        return {
            "state": flat,
            "metric": list(self.metric),
            "moments": [list(part) for part in self.moments],
            "window": self.window,
            "base": self.base,
            "buffers": None if self.buffers is None else list(self.buffers),
            "blocks": [list(block) for block in self.blocks],
            "trajectory": trajectory,
        }

    def load_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `to_dict` gave."""
        spec = pytree.tree_structure(self.state)
        self.state = pytree.tree_unflatten(list(saved["state"]), spec)
        self.metric = Metric(*saved["metric"])
        draws, grads = (mass.Moments(*part) for part in saved["moments"])
        self.moments = (draws, grads)
        self.window, self.base = int(saved["window"]), int(saved["base"])
        self.buffers = None if saved["buffers"] is None else Buffers(*saved["buffers"])
        self.blocks = [(block[0], block[1]) for block in saved["blocks"]]
        self.trajectory = None if saved["trajectory"] is None else chees.Trajectory(**saved["trajectory"])

    def _fill(self, limit: int, window: Window | None, report: Callable[[Sampler], None]) -> None:
        """Run to ``limit`` draws, in blocks that end where draws and dim say, never where time says."""
        dim = self.state.chain.position.shape[1]
        rows = min(max(65536 // dim, 16), 512)
        while self.base < limit:
            end = min(limit, self.base + rows)
            if self.buffers is None:
                count = self.state.chain.position.shape[0]
                with_grads = window is not None and self.settings.mass == "grads"
                size = end - self.base if window is not None else rows
                self.buffers = Buffers.empty(count, size, self.state.chain.position, with_grads)
            end = min(end, self.base + self.buffers.draws.shape[1])
            self._run_to(end, window is not None, report)
            if window is None and end - self.base < self.buffers.draws.shape[1]:
                return  # the block stays open for a run that goes on
            self._absorb(window)
            self.base, self.buffers = end, None

    def _run_to(self, limit: int, warming: bool, report: Callable[[Sampler], None]) -> None:
        while self.num_done < limit:
            if self.settings.shared:
                self._shared_call(limit, warming)
            else:
                adapting = warming and self.settings.adapt_step_size
                self._call(Orders(limit, self.base, adapting))
            report(self)

    def _call(self, orders: Orders) -> None:
        buffers = self.buffers
        if buffers is None:  # a block is open whenever a call is made
            return
        begin = time.perf_counter()
        self.state, done = self.engine.run(self.state, self.metric, orders, buffers, self._budget)
        spent = time.perf_counter() - begin
        if done == self._budget:
            faster = _SECONDS_A_CALL / max(spent, 1e-6)
            self._budget = max(1, min(int(self._budget * min(faster, 8.0)), 10_000_000))

    def _shared_call(self, limit: int, warming: bool) -> None:
        """ChEES: one draw at a time while warmup learns, then as many as the call allows."""
        trajectory, step = self._trajectory(), float(self.step_size[0])
        last = self.num_done + 1 if warming else limit
        counts = [trajectory.leapfrogs(draw, step) for draw in range(self.base, last)]
        schedule = torch.tensor(counts, dtype=torch.int64, device=self.step_size.device)
        # Right in a draw that an interrupt cut, too: only divergent chains end early, and they stay.
        before = self.state.chain.position.clone()
        self._call(Orders(last, self.base, False, schedule))
        if warming:
            while self.num_done < last:
                self._call(Orders(last, self.base, False, schedule))
            self._learn_trajectory(trajectory, before, counts[-1] * step, last - 1)

    def _trajectory(self) -> chees.Trajectory:
        if self.trajectory is None:
            self.trajectory = chees.Trajectory.start(float(self.step_size[0]), self.state.chain.position)
        return self.trajectory

    def _learn_trajectory(self, trajectory: chees.Trajectory, before: Tensor, time: float, row: int) -> None:
        if self.buffers is None or not self.settings.adapt_step_size:
            return
        accept = self.buffers.stats[:, row - self.base, 0]
        near = self.state.near
        trajectory.along = chees.principal_direction(trajectory.along, before, self.metric)
        gradient = chees.criterion_gradient(
            before, near.position, near.momentum, accept, self.metric, time, trajectory.along
        )
        trajectory.update(gradient, float(self.step_size[0]))
        # The harmonic mean heeds the chains that are stuck.
        mean = 1 / accept.clamp(min=_LEAST_ACCEPT).reciprocal().mean()
        step = stepsize.update(self.state.chain.step, mean.expand_as(accept), self.kernel.target_accept)  # type: ignore[attr-defined]
        self._set_step(step)

    def _absorb(self, window: Window | None) -> None:
        buffers = self.buffers
        if buffers is None:
            return
        if window is None:
            self.blocks.append((buffers.draws, buffers.stats))
        elif window.learns_mass and self.settings.adapt_mass:
            draws, grads = buffers.draws, buffers.grads
            if self.settings.shared:
                draws = draws.reshape(1, -1, draws.shape[-1])
            merged = mass.merge(self.moments[0], draws)
            self.moments = (
                merged,
                mass.merge(self.moments[1], grads) if grads is not None else self.moments[1],
            )

    def _end_window(self, window: Window) -> None:
        if window.learns_mass and self.settings.adapt_mass:
            self._new_metric()
            if self.settings.adapt_step_size:
                self._guess_step()
        if window.end == self.settings.warmup_steps and self.settings.adapt_step_size:
            self._set_step(stepsize.settle(self.state.chain.step))
            if self.trajectory is not None:
                self.trajectory.settle()

    def _new_metric(self) -> None:
        draws, grads = self.moments
        by_gradients = self.settings.mass == "grads"
        metric = mass.metric_from_gradients(draws, grads) if by_gradients else mass.metric_from_draws(draws)
        count = self.state.chain.position.shape[0]
        self.metric = Metric(*(part.expand(count, *part.shape[1:]).contiguous() for part in metric))
        self.moments = self._no_moments()

    def _no_moments(self) -> tuple[mass.Moments, mass.Moments]:
        like = self.state.chain.position
        count = 1 if self.settings.shared else like.shape[0]
        draws = mass.no_moments(count, like.shape[1], self.settings.mass == "dense", like)
        return draws, mass.no_moments(count, like.shape[1], False, like)

    def _guess_step(self) -> None:
        chain = self.state.chain
        dim, dtype = chain.position.shape[1], chain.position.dtype
        noise = rng.normals(chain.key, chain.tick, dim, dtype, first=_PROBE_LANE)
        phase = Phase(chain.position, self.metric.momentum(noise), chain.grad, chain.log_prob)
        guess = stepsize.reasonable_step_size(phase, self.metric, self.engine.gradient, self.step_size)
        if self.settings.shared:
            guess = guess.log().mean().exp().expand_as(guess).contiguous()
        self._set_step(stepsize.start(guess))

    def _set_step(self, step: stepsize.StepSize) -> None:
        fresh = stepsize.StepSize(*(field.clone() for field in step))
        self.state = self.state._replace(chain=self.state.chain._replace(step=fresh))
