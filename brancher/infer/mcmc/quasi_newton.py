"""L-BFGS for several starts at once, with the normal approximation that its history implies.

Sources: Zhang, Carpenter, Gelman, Vehtari 2022, "Pathfinder: Parallel quasi-Newton variational inference",
JMLR 23(306), algorithms 2-4; Gilbert & Lemaréchal 1989, "Some numerical experiments with variable-storage
quasi-Newton algorithms" (the diagonal); Lewis & Overton 2013 (the line search by bisection).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from brancher.infer.mcmc.integrator import Gradient
from brancher.infer.mcmc.state import pick

_ARMIJO, _CURVATURE = 1e-4, 0.9
_TRIALS = 40  # points that one line search may try


class History(NamedTuple):
    """The last J steps and changes of the gradient, newest last.

    Attributes:
        steps: ``(C, J, D)``; rows of zeros where there was no step yet.
        changes: change of the energy's gradient along each, ``(C, J, D)``.
        alpha: diagonal of the first guess of the inverse Hessian, ``(C, D)``.
    """

    steps: Tensor
    changes: Tensor
    alpha: Tensor


class Normal(NamedTuple):
    """Normal laws whose covariance is a diagonal with a correction of low rank.

    The covariance's root is ``sqrt(alpha) (I + basis (core - I) basis^T)``.

    Attributes:
        mean: ``(C, D)``.
        scale: square roots of ``alpha``, ``(C, D)``.
        basis: orthonormal columns, ``(C, D, R)``.
        core: lower triangular, ``(C, R, R)``; NaN where the covariance was not positive.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor
    core: Tensor

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Turn standard normal noise ``(C, K, D)`` into draws, with their log density in nats ``(C, K)``."""
        inside = noise @ self.basis
        change = inside @ self.core.mT - inside
        draws = self.mean[:, None] + self.scale[:, None] * (noise + change @ self.basis.mT)
        log_det = self.scale.log().sum(-1) + self.core.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        dim = noise.shape[-1]
        density = -0.5 * noise.square().sum(-1) - log_det[:, None] - 0.5 * dim * math.log(2 * math.pi)
        return draws, density


class Point(NamedTuple):
    """One iterate of every path.

    Attributes:
        position: ``(C, D)``.
        log_prob: ``(C,)``.
        grad: gradient of the log density, ``(C, D)``.
        history: what was learnt on the way.
        active: whether the path moved to get here, ``(C,)``.
    """

    position: Tensor
    log_prob: Tensor
    grad: Tensor
    history: History
    active: Tensor


def climb(gradient: Gradient, start: Tensor, max_iterations: int, size: int) -> Iterator[Point]:
    """Ascend a log density from several starts at once; yields every iterate after the starts.

    Args:
        gradient: log density and its gradient.
        start: ``(C, D)``, where the density is finite.
        max_iterations: most iterates.
        size: how many steps the history holds.
    """
    log_prob, grad = gradient(start)
    chains, dim = start.shape
    none = start.new_zeros(chains, size, dim)
    history = History(none, none.clone(), torch.ones_like(start))
    active = torch.ones_like(log_prob, dtype=torch.bool)
    point = Point(start, log_prob, grad, history, active)
    for _ in range(max_iterations):
        point = _advance(gradient, point)
        if not bool(point.active.any()):
            return
        yield point


def normal_at(point: Point) -> Normal:
    """The normal law that a path's history implies at its iterate: one Newton step ahead of it."""
    beta, gamma = _factors(point.history)
    alpha = point.history.alpha
    scale = alpha.sqrt()
    basis, upper = torch.linalg.qr(beta / scale[..., None])
    core = upper @ gamma @ upper.mT
    core = torch.eye(core.shape[-1], dtype=core.dtype, device=core.device) + (core + core.mT) / 2
    core = torch.nan_to_num(core, nan=-1.0)
    factor, failed = torch.linalg.cholesky_ex(core)
    factor = torch.where((failed > 0)[:, None, None], math.nan, factor)
    return Normal(point.position + _product(alpha, beta, gamma, point.grad), scale, basis, factor)


def _advance(gradient: Gradient, point: Point) -> Point:
    beta, gamma = _factors(point.history)
    direction = _product(point.history.alpha, beta, gamma, point.grad)
    slope = (direction * point.grad).sum(-1)
    # Rounding can spoil a long history; the gradient itself always climbs.
    spoiled = ~(torch.isfinite(slope) & (slope > 0))
    direction = pick(spoiled, point.grad, direction)
    slope = (direction * point.grad).sum(-1)
    fresh = spoiled | (point.history.steps == 0).all(-1).all(-1)
    first = torch.where(fresh, 1 / direction.norm(dim=-1).clamp(min=1.0), torch.ones_like(slope))
    position, log_prob, grad, found = _search(gradient, point, direction, slope, first)
    moved = point.active & found
    gain = log_prob - point.log_prob
    scale = torch.maximum(log_prob.abs(), point.log_prob.abs()).clamp(min=1.0)
    eps = torch.finfo(gain.dtype).eps
    moved = moved & (gain > max(10 * eps, 1e-12) * scale)
    history = _remember(point.history, position - point.position, point.grad - grad, moved)
    return Point(
        pick(moved, position, point.position),
        torch.where(moved, log_prob, point.log_prob),
        pick(moved, grad, point.grad),
        history,
        moved,
    )


def _search(
    gradient: Gradient, point: Point, direction: Tensor, slope: Tensor, first: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bisect for a step that climbs enough and flattens the slope; the last step that climbed will do."""
    low, high = torch.zeros_like(first), torch.full_like(first, math.inf)
    step, open_ = first.clone(), point.active.clone()
    best = [point.position, point.log_prob, point.grad]
    found = torch.zeros_like(open_)
    for _ in range(_TRIALS):
        position = point.position + step[:, None] * direction
        log_prob, grad = gradient(position)
        log_prob = torch.nan_to_num(log_prob, nan=-math.inf)
        usable = torch.isfinite(log_prob) & torch.isfinite(grad).all(-1)
        enough = usable & (log_prob >= point.log_prob + _ARMIJO * step * slope)
        steep = (grad * direction).sum(-1) > _CURVATURE * slope
        take = open_ & enough
        best = [pick(take, new, old) for new, old in zip((position, log_prob, grad), best, strict=True)]
        found = found | take
        high = torch.where(open_ & ~enough, step, high)
        low = torch.where(take, step, low)
        open_ = open_ & ~(enough & ~steep)
        if not bool(open_.any()):
            break
        step = torch.where(torch.isfinite(high), (low + high) / 2, 2 * step)
    return best[0], best[1], best[2], found


def _remember(history: History, step: Tensor, change: Tensor, moved: Tensor) -> History:
    curvature = (step * change).sum(-1)
    eps = torch.finfo(step.dtype).eps
    convex = moved & (curvature > eps * change.square().sum(-1)) & torch.isfinite(curvature)
    steps = torch.cat([history.steps[:, 1:], step[:, None]], dim=1)
    changes = torch.cat([history.changes[:, 1:], change[:, None]], dim=1)
    alpha = _diagonal(history.alpha, step, change, curvature)
    usable = convex & (torch.isfinite(alpha) & (alpha > 0)).all(-1)
    return History(
        pick(usable, steps, history.steps),
        pick(usable, changes, history.changes),
        pick(usable, alpha, history.alpha),
    )


def _diagonal(alpha: Tensor, step: Tensor, change: Tensor, curvature: Tensor) -> Tensor:
    """The diagonal update of Gilbert & Lemaréchal 1989, eq. 4.9."""
    a = (change.square() * alpha).sum(-1, keepdim=True)
    b = curvature[:, None]
    c = (step.square() / alpha).sum(-1, keepdim=True)
    return 1 / (a / (b * alpha) + change.square() / b - a * step.square() / (b * c * alpha.square()))


def _factors(history: History) -> tuple[Tensor, Tensor]:
    """``beta (C, D, 2J)`` and ``gamma (C, 2J, 2J)``: inverse Hessian = diag(alpha) + beta gamma beta^T."""
    steps, changes = history.steps, history.changes
    size = steps.shape[1]
    empty = (steps == 0).all(-1)
    eye = torch.eye(size, dtype=steps.dtype, device=steps.device)
    upper = (steps @ changes.mT).triu() + torch.diag_embed(empty.to(steps.dtype))
    inverse = torch.linalg.solve_triangular(upper, eye.expand_as(upper), upper=True)
    scaled = changes * history.alpha[:, None]
    middle = torch.diag_embed(upper.diagonal(dim1=-2, dim2=-1)) + scaled @ changes.mT
    top = torch.cat([torch.zeros_like(upper), -inverse], dim=-1)
    bottom = torch.cat([-inverse.mT, inverse.mT @ middle @ inverse], dim=-1)
    return torch.cat([scaled, steps], dim=1).mT, torch.cat([top, bottom], dim=-2)


def _product(alpha: Tensor, beta: Tensor, gamma: Tensor, vector: Tensor) -> Tensor:
    inside = gamma @ (beta.mT @ vector[..., None])
    return alpha * vector + (beta @ inside)[..., 0]
