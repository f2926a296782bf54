"""Where chains start: from each chain's own random numbers, again and again until the density is finite."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from brancher.errors import NonFiniteError
from brancher.handlers import substitute, trace
from brancher.infer.initialization import Init, init_to_uniform
from brancher.infer.mcmc import rng
from brancher.infer.mcmc.integrator import Gradient
from brancher.infer.mcmc.potential import Potential
from brancher.staging import random_state_kept

_TRIES = 100
# Where a density is lower than this (a recursion that explodes over 200 moments has -1e89), steps small
# enough to follow its slope vanish in rounding, and a chain spends all of its warmup on the way down.
_STEEP = -1e20
_GENTLE_TRIES = 20
_LANE = 1 << 20  # apart from the lanes of the trajectories


def find_start(density: Any, gradient: Gradient, keys: Tensor, strategy: Init) -> Tensor:
    """Choose a start for each chain: the first one that is finite, and not steep beyond all measure.

    Args:
        density: a `Potential`, or a density that knows ``like`` and ``dim``.
        gradient: log density and its gradient.
        keys: the chains' keys, ``(C, 2)``.
        strategy: first values by site; ignored without a model.

    Raises:
        NonFiniteError: no finite density was found, naming the site at fault.
    """
    position = _propose(density, keys, 0, strategy)
    for attempt in range(1, _TRIES + 1):
        value, grad = gradient(position)
        bad = _bad(value, grad)
        again = bad | (value < _STEEP) if attempt <= _GENTLE_TRIES else bad
        if not bool(again.any()):
            return position
        if attempt == _TRIES:
            break
        proposal = _propose(density, keys, attempt, strategy)
        position = torch.where(again[:, None], proposal, position)
    refuse(density, position, bad, f"after {_TRIES} tries")
    return position


def check_start(density: Any, gradient: Gradient, position: Tensor) -> None:
    """Refuse given starts where the density is not finite.

    Raises:
        NonFiniteError: naming the chain and the site.
    """
    bad = _bad(*gradient(position))
    if bool(bad.any()):
        refuse(density, position, bad, "at initial_params")


def refuse(density: Any, position: Tensor, bad: Tensor, when: str) -> None:
    """Raise, naming the site at fault."""
    chain = int(bad.nonzero()[0])
    raise NonFiniteError(
        f"MCMC chain {chain}: expected a finite log density to start from, got none {when}: "
        f"{density.why_bad(position[chain])}; check the data, the priors' scales, or give initial_params"
    )


def _bad(value: Tensor, grad: Tensor) -> Tensor:
    return ~(torch.isfinite(value) & torch.isfinite(grad).all(-1))


def _propose(density: Any, keys: Tensor, attempt: int, strategy: Init) -> Tensor:
    radius = _radius(strategy)
    dtype, dim = density.like.dtype, density.dim
    if radius is not None or not isinstance(density, Potential):
        tick = torch.full_like(keys[:, 0], attempt)
        uniform = rng.uniforms(keys, tick, dim, dtype, first=_LANE)
        return ((2 * uniform - 1) * (2.0 if radius is None else radius)).contiguous()
    rows = []
    for key in keys.tolist():
        run_seed = (key[0] << 31) ^ key[1] ^ (attempt << 13)
        with random_state_kept(), torch.no_grad():
            torch.manual_seed(run_seed % 2**63)
            values = _first_values(density, strategy)
        rows.append(density.unconstrain(values))
    return torch.stack(rows).to(dtype)


def _first_values(density: Potential, strategy: Init) -> dict[str, Tensor]:
    def answer(message: Any) -> Tensor | None:
        return strategy(message) if message.type == "sample" and not message.is_observed else None

    record = trace(substitute(density.model, substitute_fn=answer)).get_trace(*density.args, **density.kwargs)
    return {slot.name: record.nodes[slot.name].value for slot in density.slots}


def _radius(strategy: Init) -> float | None:
    """The radius of ``init_to_uniform``, whose draws need no run of the model."""
    if strategy is init_to_uniform:
        return 2.0
    if isinstance(strategy, functools.partial) and strategy.func is init_to_uniform:
        return float(strategy.keywords.get("radius", 2.0))
    return None
