"""What every kernel's state has in common, and what a finished draw reports."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from brancher.infer.mcmc.integrator import Gradient, Metric
from brancher.infer.mcmc.stepsize import StepSize


class Chain(NamedTuple):
    """A chain between two draws: all that the next draw depends on, besides metric and settings.

    Attributes:
        key: key of the chain's random numbers, int64 ``(C, 2)``.
        tick: their counter, int64 ``(C,)``.
        drawn: draws finished so far, int64 ``(C,)``.
        position: the last draw, ``(C, D)``.
        grad: gradient of the log density there, ``(C, D)``.
        log_prob: log density there in nats, ``(C,)``.
        step: the step size and its adaptation.
    """

    key: Tensor
    tick: Tensor
    drawn: Tensor
    position: Tensor
    grad: Tensor
    log_prob: Tensor
    step: StepSize


class Info(NamedTuple):
    """What one finished draw reports; ``(C,)`` each, meaningful where ``done``.

    Attributes:
        done: whether the chain finished a draw in this iteration.
        acceptance_rate: mean acceptance probability along the trajectory.
        n_steps: leapfrogs.
        tree_depth: doublings (0 for kernels without a tree).
        diverging: whether the energy error passed the threshold.
        energy: Hamiltonian at the draw, nats.
        log_prob: log density at the draw, nats.
        step_size: step in use.
    """

    done: Tensor
    acceptance_rate: Tensor
    n_steps: Tensor
    tree_depth: Tensor
    diverging: Tensor
    energy: Tensor
    log_prob: Tensor
    step_size: Tensor


class Control(NamedTuple):
    """What the run loop tells a kernel: 0-d tensors, so that one compiled loop serves the whole run.

    Attributes:
        limit: chains with this many draws rest, int64.
        adapting: whether finished draws change the step size, bool.
        base: draws that were finished before this call, int64.
        schedule: leapfrogs of each draw from ``base`` on, int64 ``(draws,)``, for kernels that take orders.
    """

    limit: Tensor
    adapting: Tensor
    base: Tensor
    schedule: Tensor | None = None


class Kernel(Protocol):
    """A transition cut into equal iterations, so that chains of unlike length share one loop.

    ``state.chain`` is a `Chain`; everything else in the state belongs to the draw under way.
    """

    def init(self, chain: Chain) -> Any:
        """Return the state of chains that are about to begin a draw."""

    def step(self, state: Any, metric: Metric, gradient: Gradient, control: Control) -> tuple[Any, Info]:
        """Do one iteration of every chain; most often one gradient."""


def pick(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``torch.where`` with a mask of shape ``(C,)`` over tensors of shape ``(C, ...)``."""
    return torch.where(mask.reshape(mask.shape + (1,) * (no.dim() - 1)), yes, no)


def pick_all(mask: Tensor, yes: Any, no: Any) -> Any:
    """`pick` over the fields of two NamedTuples of one type."""
    return type(no)(*(pick(mask, a, b) for a, b in zip(yes, no, strict=True)))
