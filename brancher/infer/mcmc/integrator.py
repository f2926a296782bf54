"""One leapfrog step and its metric (Neal 2011, "MCMC using Hamiltonian dynamics", eq. 5.18-5.20)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Density = Callable[[Tensor], Tensor]
Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]


class Metric(NamedTuple):
    """The mass matrix of each chain, by its inverse and a root of itself.

    Diagonal: both of shape ``(C, D)``. Dense: both ``(C, D, D)``, and ``root @ root.mT`` is the mass.
    """

    inverse: Tensor
    root: Tensor

    def velocity(self, momentum: Tensor) -> Tensor:
        """Return inverse mass times momentum; ``(C, D)``, or ``(C, K, D)`` for K momenta of a chain."""
        if momentum.dim() == 3:
            return _apply(self.inverse[:, None], momentum, self.inverse.dim() == 3)
        return _apply(self.inverse, momentum, self.inverse.dim() == 3)

    def momentum(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise ``(C, D)`` into momenta."""
        return _apply(self.root, noise, self.root.dim() == 3)

    def kinetic(self, momentum: Tensor) -> Tensor:
        """Kinetic energy in nats, shape ``(C,)``."""
        return 0.5 * (momentum * self.velocity(momentum)).sum(-1)


def _apply(matrix: Tensor, vector: Tensor, dense: bool) -> Tensor:
    # A product and a sum instead of matmul: it fuses with its neighbours inside a compiled loop.
    return (matrix * vector[..., None, :]).sum(-1) if dense else matrix * vector


class Phase(NamedTuple):
    """A point in phase space with what the density says there: ``(C, D)`` each, ``log_prob`` ``(C,)``."""

    position: Tensor
    momentum: Tensor
    grad: Tensor
    log_prob: Tensor


def value_and_grad(log_prob: Density) -> Gradient:
    """Pair a density of ``(C, D)`` with its gradient; chains do not mix, so one backward pass serves all."""

    def evaluate(position: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            point = position.detach().requires_grad_()
            value = log_prob(point)
            (grad,) = torch.autograd.grad(value.sum(), point)
        return value.detach(), grad.detach()

    return evaluate


def leapfrog(phase: Phase, step_size: Tensor, metric: Metric, gradient: Gradient) -> Phase:
    """Move every chain by one leapfrog.

    Args:
        phase: where the chains are.
        step_size: signed, shape ``(C,)``.
        metric: the mass.
        gradient: log density and its gradient.
    """
    step = step_size[:, None]
    half = phase.momentum + 0.5 * step * phase.grad
    position = phase.position + step * metric.velocity(half)
    log_prob, grad = gradient(position)
    return Phase(position, half + 0.5 * step * grad, grad, log_prob)
