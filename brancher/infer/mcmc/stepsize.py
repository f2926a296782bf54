"""The step size: a first guess, then dual averaging.

Source: Hoffman & Gelman 2014, "The No-U-Turn Sampler", JMLR 15, algorithm 4 (first guess) and eq. 6.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from brancher.infer.mcmc.integrator import Gradient, Metric, Phase, leapfrog

_SHRINKAGE = 0.05  # gamma of the source
_DELAY = 10.0  # t0
_DECAY = 0.75  # kappa


class StepSize(NamedTuple):
    """Dual averaging of each chain; every field has shape ``(C,)``.

    Attributes:
        log_step: logarithm of the step in use.
        log_average: logarithm of the averaged step, the one to keep after warmup.
        error: running mean of target minus acceptance (H of the source).
        updates: how many draws were taken in.
        centre: where the log step is drawn to (mu of the source).
    """

    log_step: Tensor
    log_average: Tensor
    error: Tensor
    updates: Tensor
    centre: Tensor


def start(step_size: Tensor) -> StepSize:
    """Begin dual averaging from a positive step size of shape ``(C,)``."""
    log_step = step_size.log()
    zero = torch.zeros_like(log_step)
    return StepSize(log_step, log_step.clone(), zero, zero.clone(), log_step + math.log(10))


def update(state: StepSize, accept: Tensor, target: float) -> StepSize:
    """Take in the mean acceptance probability of one draw, shape ``(C,)``."""
    updates = state.updates + 1
    error = state.error + ((target - accept) - state.error) / (updates + _DELAY)
    log_step = state.centre - updates.sqrt() / _SHRINKAGE * error
    weight = updates.pow(-_DECAY)
    log_average = weight * log_step + (1 - weight) * state.log_average
    return StepSize(log_step, log_average, error, updates, state.centre)


def settle(state: StepSize) -> StepSize:
    """Fix the step at its average, as after the last draw of warmup."""
    return state._replace(log_step=torch.where(state.updates > 0, state.log_average, state.log_step))


def reasonable_step_size(
    phase: Phase, metric: Metric, gradient: Gradient, guess: Tensor, tries: int = 60
) -> Tensor:
    """Double or halve a step until the acceptance probability of one leapfrog crosses 0.8.

    Args:
        phase: start with fresh momentum; chains are treated apart.
        metric: the mass.
        gradient: log density and its gradient.
        guess: first step, shape ``(C,)``.
        tries: most doublings or halvings.

    Returns:
        A positive step size, shape ``(C,)``.
    """
    before = phase.log_prob - metric.kinetic(phase.momentum)
    step = guess.clone()
    sign: Tensor | None = None
    active = torch.ones_like(step, dtype=torch.bool)
    for _ in range(tries):
        after = leapfrog(phase, step, metric, gradient)
        change = after.log_prob - metric.kinetic(after.momentum) - before
        good = torch.nan_to_num(change, nan=-math.inf) > math.log(0.8)
        direction = torch.where(good, 1.0, -1.0).to(step.dtype)
        sign = direction if sign is None else sign
        active = active & (direction == sign)
        if not bool(active.any()):
            break
        step = torch.where(active, step * torch.exp2(sign), step)
    return step.clamp(1e-12, 1e7)
