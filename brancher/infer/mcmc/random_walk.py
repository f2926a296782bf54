"""Random walk Metropolis: no gradient, one density an iteration.

Sources: Roberts, Gelman, Gilks 1997 (acceptance 0.234 in many dimensions, 0.44 in one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from brancher.infer.mcmc import rng, stepsize
from brancher.infer.mcmc.integrator import Gradient, Metric
from brancher.infer.mcmc.state import Chain, Control, Info, pick, pick_all


class State(NamedTuple):
    """Nothing is left between two draws but the chain."""

    chain: Chain


@dataclass(frozen=True)
class RandomWalkKernel:
    """Transition of random walk Metropolis; the step size scales the metric's root.

    Args:
        target_accept: acceptance probability that the step size is adapted to.
    """

    target_accept: float = 0.234

    def init(self, chain: Chain) -> State:
        """Return the state of chains that are about to begin a draw."""
        return State(chain)

    def step(self, state: State, metric: Metric, gradient: Gradient, control: Control) -> tuple[State, Info]:
        """Propose once in every chain."""
        chain = state.chain
        active = chain.drawn < control.limit
        dim, dtype = chain.position.shape[1], chain.position.dtype
        step_size = chain.step.log_step.exp()
        # The inverse mass is the posterior's (co)variance: its root times noise is mass-scaled noise.
        noise = metric.velocity(metric.momentum(rng.normals(chain.key, chain.tick, dim, dtype)))
        proposal = chain.position + step_size[:, None] * noise
        log_prob, grad = gradient(proposal)
        gain = torch.nan_to_num(log_prob - chain.log_prob, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        take = active & (rng.uniforms(chain.key, chain.tick, 1, dtype)[:, 0].log() < gain)
        accept = gain.clamp(max=0).exp()
        adapted = stepsize.update(chain.step, accept, self.target_accept)
        after = Chain(
            chain.key,
            chain.tick + active.long(),
            chain.drawn + active.long(),
            pick(take, proposal, chain.position),
            pick(take, grad, chain.grad),
            pick(take, log_prob, chain.log_prob),
            pick_all(active & control.adapting, adapted, chain.step),
        )
        zero = torch.zeros_like(accept)
        return State(after), Info(
            active, accept, zero + 1, zero, zero, -after.log_prob, after.log_prob, step_size
        )
