"""Hamiltonian Monte Carlo with a trajectory of given length, one leapfrog of every chain an iteration.

Source: Neal 2011, "MCMC using Hamiltonian dynamics", section 5.3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from brancher.absent import refuse
from brancher.infer.mcmc import rng, stepsize
from brancher.infer.mcmc.integrator import Gradient, Metric, Phase, leapfrog
from brancher.infer.mcmc.state import Chain, Control, Info, pick, pick_all

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

_MAX_ENERGY_ERROR = 1000.0
_MAX_LEAPFROGS = 1024


class State(NamedTuple):
    """Chains in the middle of their trajectories.

    Attributes:
        chain: the last finished draws.
        fresh: 1 where a draw is about to begin, int64 ``(C,)``.
        leaps: leapfrogs done.
        needed: leapfrogs of this draw.
        near: the moving point.
        energy: Hamiltonian at the start of the draw.
    """

    chain: Chain
    fresh: Tensor
    leaps: Tensor
    needed: Tensor
    near: Phase
    energy: Tensor


@dataclass(frozen=True)
class HMCKernel:
    """Transition of Hamiltonian Monte Carlo.

    Args:
        target_accept: acceptance probability that the step size is adapted to.
        trajectory_length: step size times leapfrogs.
    """

    target_accept: float = 0.8
    trajectory_length: float = 2 * math.pi

    def init(self, chain: Chain) -> State:
        """Return the state of chains that are about to begin a draw."""
        like = chain.position
        none = torch.zeros_like(chain.drawn)
        near = Phase(like.clone(), torch.zeros_like(like), chain.grad.clone(), chain.log_prob.clone())
        return State(chain, torch.ones_like(none), none, none.clone(), near, torch.zeros_like(chain.log_prob))

    def step(self, state: State, metric: Metric, gradient: Gradient, control: Control) -> tuple[State, Info]:
        """Move every chain by one leapfrog, and accept or reject where the trajectory is complete."""
        active = state.chain.drawn < control.limit
        chain, dtype = state.chain, state.energy.dtype
        step_size = chain.step.log_step.exp()
        state = self._begin(state, metric, step_size, control)
        near = leapfrog(state.near, step_size, metric, gradient)
        energy = metric.kinetic(near.momentum) - near.log_prob
        gain = torch.nan_to_num(state.energy - energy, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        diverging = gain < -_MAX_ENERGY_ERROR
        leaps = state.leaps + 1
        done = active & (diverging | (leaps >= state.needed))
        log_uniform = rng.uniforms(chain.key, chain.tick, 1, dtype)[:, 0].log()
        accept = gain.clamp(max=0).exp()
        take = done & (log_uniform < gain)
        adapted = stepsize.update(chain.step, accept, self.target_accept)
        after = Chain(
            chain.key,
            chain.tick + active.long(),
            chain.drawn + done.long(),
            pick(take, near.position, chain.position),
            pick(take, near.grad, chain.grad),
            pick(take, near.log_prob, chain.log_prob),
            pick_all(done & control.adapting, adapted, chain.step),
        )
        fresh = torch.where(active, done.long(), torch.ones_like(leaps))
        new = State(after, fresh, leaps, state.needed, near, state.energy)
        at_draw = torch.where(take, energy, state.energy)
        zero = torch.zeros_like(energy)
        flag = diverging.to(dtype)
        return new, Info(done, accept, leaps.to(dtype), zero, flag, at_draw, after.log_prob, step_size)

    def _begin(self, state: State, metric: Metric, step_size: Tensor, control: Control) -> State:
        fresh, chain = state.fresh > 0, state.chain
        dim, dtype = chain.position.shape[1], chain.position.dtype
        momentum = metric.momentum(rng.normals(chain.key, chain.tick, dim, dtype))
        start = Phase(chain.position, momentum, chain.grad, chain.log_prob)
        if control.schedule is None:
            needed = (self.trajectory_length / step_size).ceil().clamp(1, _MAX_LEAPFROGS).long()
        else:
            row = (chain.drawn - control.base).clamp(0, control.schedule.shape[0] - 1)
            needed = control.schedule[row]
        return state._replace(
            near=pick_all(fresh, start, state.near),
            energy=torch.where(fresh, metric.kinetic(momentum) - chain.log_prob, state.energy),
            leaps=torch.where(fresh, torch.zeros_like(state.leaps), state.leaps),
            needed=torch.where(fresh, needed, state.needed),
        )
