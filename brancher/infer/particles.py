"""Particles as a batch dimension left of every plate, and the test whether a model allows that."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from brancher.distributions.validation import validation_enabled
from brancher.handlers import Frame, Message, Trace, stack, substitute, trace
from brancher.handlers.density import score
from brancher.handlers.plate import PlateScope
from brancher.infer.pairing import paired_traces

Fn = Callable[..., Any]

#: The plate's name; the leading underscore marks it as the library's own.
PARTICLES = "_particles"


@contextmanager
def particle_plate(num_particles: int, max_plate_nesting: int) -> Iterator[None]:
    """Draw every site inside ``num_particles`` times, in the dimension left of all plates."""
    dim = -1 - max_plate_nesting
    with PlateScope(Frame(PARTICLES, dim, num_particles, num_particles), None):
        yield


@contextmanager
def probing() -> Iterator[None]:
    """Run functions for what they show, leaving random state, stack and gradients alone."""
    with ExitStack() as inside:
        inside.enter_context(stack.emptied())
        inside.enter_context(torch.random.fork_rng(devices=[]))
        inside.enter_context(torch.no_grad())
        inside.enter_context(validation_enabled(False))
        inside.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def count_plate_dims(model: Fn, guide: Fn | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Count the batch dimensions that the plates of a model, and of its guide, use."""
    with probing():
        if guide is None:
            traces = [trace(model).get_trace(*args, **kwargs)]
        else:
            traces = list(paired_traces(model, guide, args, kwargs))
    return max((-frame.dim for t in traces for s in t.sites() for frame in s.frames if frame.dim), default=0)


def why_not_vectorizable(
    model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any], max_plate_nesting: int
) -> str | None:
    """Say why a batch of particles would be wrong for a model and guide, or None where it is right.

    Two particles are run as a batch, and then each on its own with the same draws: every
    site's log-density must be the same both times. A model that sums over a batch dimension
    without saying so, or branches on a draw, is found out by that.
    """
    with probing():
        try:
            with particle_plate(2, max_plate_nesting):
                batch = paired_traces(model, guide, args, kwargs)
        except Exception as error:  # whatever the user's code raises on a batch
            return f"a batch of particles fails ({type(error).__name__}: {error})"
        for particle in range(2):
            alone = _alone(model, guide, args, kwargs, batch, particle, max_plate_nesting)
            for together, single in zip(batch, alone, strict=True):
                name = _first_difference(together, single, particle, max_plate_nesting)
                if name is not None:
                    return f"site '{name}' mixes the particles of a batch"
    return None


def _alone(
    model: Fn,
    guide: Fn,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    batch: tuple[Trace, Trace],
    particle: int,
    nesting: int,
) -> tuple[Trace, Trace]:
    def drawn(message: Message) -> Any:
        for record in batch:
            site = record.nodes.get(message.name)
            if site is not None and site.type == message.type == "plate":
                return site.value
            if site is not None and site.type == message.type == "sample":
                value = select_particle(site.value, particle, len(site.fn.event_shape), nesting)
                return value.reshape(message.fn.batch_shape + message.fn.event_shape)
        return None

    with substitute(substitute_fn=drawn):
        return paired_traces(model, guide, args, kwargs)


def select_particle(value: torch.Tensor, particle: int, event_dim: int, nesting: int) -> torch.Tensor:
    """One particle of a batch, without the particle dimension; a shared value as it is."""
    at = value.dim() - event_dim - nesting - 1
    return value if at < 0 else value.select(at, particle if value.shape[at] > 1 else 0)


def _first_difference(together: Trace, single: Trace, particle: int, nesting: int) -> str | None:
    for site in single.scored():
        twin = together.nodes.get(site.name)
        if twin is None:
            return site.name
        alone, one = score(site), select_particle(score(twin), particle, 0, nesting)
        if one.numel() != alone.numel():
            return site.name
        if not torch.allclose(one.reshape(alone.shape), alone, rtol=1e-3, atol=1e-4, equal_nan=True):
            return site.name
    return None
