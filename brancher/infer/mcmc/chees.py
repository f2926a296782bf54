"""ChEES: Hamiltonian Monte Carlo whose trajectory length all chains learn together.

Sources: Hoffman, Radul, Sountsov 2021, "An Adaptive-MCMC Scheme for Setting Trajectory Lengths in Hamiltonian
Monte Carlo", AISTATS, algorithm 1 and eq. 4-6; Sountsov & Hoffman 2021, arXiv:2110.11576, "Focusing on
Difficult Directions for Learning HMC Trajectory Lengths": only the jump along the widest direction counts.
The jump alone favours trajectories longer than they are worth, the jump by its time shorter ones than means
need; here it is divided by the root of its time. All is in the metric's own coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from brancher.infer.mcmc.integrator import Metric

_RATE, _BETA, _AVERAGING = 0.025, 0.95, 0.5
_TURN = 0.2
_MAX_LEAPFROGS = 1000


def halton(index: int, base: int = 2) -> float:
    """Element ``index`` (from 1) of the Halton sequence, in (0, 1).

    Example:
        >>> [halton(i) for i in (1, 2, 3)]
        [0.5, 0.25, 0.75]
    """
    value, part = 0.0, 1.0
    while index > 0:
        part /= base
        value += part * (index % base)
        index //= base
    return value


@dataclass
class Trajectory:
    """The trajectory length and its ascent on the criterion.

    Attributes:
        log_length: logarithm of the length in use.
        log_average: averaged logarithm, the one to keep.
        along: the direction in which chains spread most, a unit vector ``(D,)``.
        square: running mean of squared gradients (Adam without momentum).
        count: updates so far.
    """

    log_length: float
    log_average: float
    along: Tensor
    square: float = 0.0
    count: int = 0

    @classmethod
    def start(cls, length: float, like: Tensor) -> Trajectory:
        """Begin with a length, at first one step, and with no direction before others."""
        dim = like.shape[-1]
        return cls(math.log(length), math.log(length), like.new_full((dim,), dim**-0.5))

    def update(self, gradient: float, step_size: float) -> None:
        """Follow one estimate of the criterion's derivative with respect to the log length."""
        if not math.isfinite(gradient):
            return
        self.count += 1
        self.square = _BETA * self.square + (1 - _BETA) * gradient**2
        scale = math.sqrt(self.square / (1 - _BETA**self.count)) + 1e-8
        self.log_length += _RATE * gradient / scale
        low, high = math.log(step_size), math.log(step_size * _MAX_LEAPFROGS)
        self.log_length = min(max(self.log_length, low), high)
        weight = self.count**-_AVERAGING
        self.log_average = weight * self.log_length + (1 - weight) * self.log_average

    def settle(self) -> None:
        """Fix the length at its average."""
        self.log_length = self.log_average

    def leapfrogs(self, draw: int, step_size: float) -> int:
        """Leapfrogs of draw number ``draw``: the length times a quasi-random factor in (0, 1)."""
        count = math.ceil(halton(draw + 1) * math.exp(self.log_length) / step_size)
        return min(max(count, 1), _MAX_LEAPFROGS)


def principal_direction(direction: Tensor, position: Tensor, metric: Metric) -> Tensor:
    """Turn a unit vector ``(D,)`` towards the direction in which chains ``(C, D)`` spread most.

    One step of the power method, damped, in the metric's own coordinates.
    """
    spread = (position - position.mean(0)) * metric.root[:1]
    pulled = spread.mT @ (spread @ direction)
    norm = pulled.norm()
    usable = torch.isfinite(norm) & (norm > 0)
    turned = (1 - _TURN) * direction + _TURN * pulled / norm
    return torch.where(usable, turned / turned.norm(), direction)


def criterion_gradient(
    before: Tensor,
    after: Tensor,
    momentum: Tensor,
    accept: Tensor,
    metric: Metric,
    time: float,
    along: Tensor,
) -> float:
    """Estimate the derivative of the criterion with respect to the log length.

    Args:
        before: starts of the trajectories, ``(C, D)``.
        after: their ends, accepted or not.
        momentum: momenta at the ends.
        accept: acceptance probabilities, ``(C,)``.
        metric: diagonal mass.
        time: length of this draw's trajectory.
        along: unit vector of the direction that counts, ``(D,)``.
    """
    scale = metric.root[:1]
    weight = torch.where(torch.isfinite(after).all(-1), accept, torch.zeros_like(accept))
    ends = torch.nan_to_num(after)
    total = weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
    start = ((before - before.mean(0)) * scale) @ along
    end = ((ends - (weight[:, None] * ends).sum(0) / total) * scale) @ along
    speed = (torch.nan_to_num(metric.velocity(momentum)) * scale) @ along
    change = end.square() - start.square()
    # The jump is (change / 2)**2, divided by the root of the time that it takes.
    each = time * change * end * speed - change.square() / 8
    return float((weight * torch.nan_to_num(each)).sum() / total)
