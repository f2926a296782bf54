"""Run a model once for every draw: as a batch, in the lanes of a ``vmap``, or one after the other.

A batch puts the draws into one dimension left of everything the model uses. Models that fix the
ranks of their tensors (``x @ w``) can not take that, but their densities can be mapped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch

from brancher.distributions.validation import is_validating, validation_enabled
from brancher.errors import InferenceError
from brancher.handlers import Message, Trace, substitute
from brancher.handlers.density import SCORED
from brancher.infer.draws import fitting, refuse_nan
from brancher.infer.particles import particle_plate
from brancher.staging import random_state_kept

Values: TypeAlias = Mapping[str, torch.Tensor]
#: Runs whatever is to be run once, and returns its traces.
Run: TypeAlias = Callable[[], Sequence[Trace]]
#: Takes tensors out of the traces of one run.
Read: TypeAlias = Callable[[Sequence[Trace]], dict[str, torch.Tensor]]


class Layout(NamedTuple):
    """What one run shows about all of them.

    Attributes:
        traces: the traces of the run.
        nesting: batch dimensions in use, by plates or by distributions.
        given: values by site, shape (draws, *site).
    """

    traces: Sequence[Trace]
    nesting: int
    given: dict[str, torch.Tensor]


#: Runs for every draw: (run, read, layout, values given, how many).
Way: TypeAlias = Callable[[Run, Read, Layout, Values, int], dict[str, torch.Tensor]]


def lay_out(run: Run, given: Values) -> Layout:
    """Run once on the first draw, leaving random state and gradients alone.

    Raises:
        InferenceError: a given value does not have its site's shape, or holds NaN.
    """
    first = answers({name: value[0] for name, value in given.items()})

    def answer(message: Message) -> torch.Tensor | None:
        if message.type == "sample" and message.name in given and is_validating():
            refuse_nan(message.name, given[message.name])
        return first(message)

    with aside(), substitute(substitute_fn=answer):
        traces = run()
    sites = [site for record in traces for site in record.sites()]
    plates = [-frame.dim for site in sites for frame in site.frames if frame.dim is not None]
    batches = [len(site.fn.batch_shape) for site in sites if site.type in SCORED]
    return Layout(traces, max([0, *plates, *batches]), dict(given))


@contextmanager
def aside() -> Iterator[None]:
    """Run functions for what they show: no gradient, no warning, the random state as before."""
    with random_state_kept(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def replicate(
    way: Way, run: Run, read: Read, layout: Layout, num_samples: int, batch_size: int | None = None
) -> dict[str, torch.Tensor]:
    """Run for every draw and collect what is read, the draws on the left.

    Args:
        way: :func:`in_batch`, :func:`~brancher.infer.lanes.in_lanes` or :func:`in_loop`.
        run: one run; latent sites named in ``layout.given`` take their values from there.
        read: what to take out of its traces.
        layout: see :func:`lay_out`.
        num_samples: how many draws, > 0.
        batch_size: how many draws to run together; None for all.

    Raises:
        InferenceError: what is read has not one shape in all runs.
    """
    step = batch_size or num_samples
    chunks = []
    with torch.no_grad():
        for start in range(0, num_samples, step):
            given = {name: value[start : start + step] for name, value in layout.given.items()}
            chunks.append(way(run, read, layout, given, min(step, num_samples - start)))
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def in_loop(run: Run, read: Read, layout: Layout, given: Values, size: int) -> dict[str, torch.Tensor]:
    """Run the draws one after the other."""
    rows = []
    for i in range(size):
        now = {name: value[i] for name, value in given.items()}
        # What holds for the first draw's shapes holds for the others'.
        with validation_enabled(is_validating() and i == 0), substitute(substitute_fn=answers(now)):
            rows.append(read(run()))
    return {name: _stacked(name, rows) for name in rows[0]}


def answers(now: Values) -> Callable[[Message], torch.Tensor | None]:
    """What ``substitute`` asks: one draw's value for a site, or None."""

    def answer(message: Message) -> torch.Tensor | None:
        value = now.get(message.name)
        return None if value is None else fitting(message, value)

    return answer


def _stacked(name: str, rows: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    values = [row[name] for row in rows]
    shapes = sorted({tuple(value.shape) for value in values})
    if len(shapes) > 1:
        raise InferenceError(
            f"site '{name}': expected one shape in all draws, got {shapes[0]} and {shapes[1]}; leave it "
            "out of return_sites, or run its draws one by one"
        )
    return torch.stack(values)


def in_batch(run: Run, read: Read, layout: Layout, given: Values, size: int) -> dict[str, torch.Tensor]:
    """Run the draws together, in a dimension left of all others."""
    shapes = {name: value.shape for name, value in read(layout.traces).items()}
    values = read(traces_in_batch(run, layout, given, size))
    return {name: _folded(name, value, size, shapes[name]) for name, value in values.items()}


def traces_in_batch(run: Run, layout: Layout, given: Values, size: int) -> Sequence[Trace]:
    """The traces of all draws together, the draws in a dimension left of all others."""

    def answer(message: Message) -> torch.Tensor | None:
        value = given.get(message.name)
        return None if value is None else _spread(message, value, layout.nesting)

    with particle_plate(size, layout.nesting), substitute(substitute_fn=answer):
        return run()


def _spread(message: Message, value: torch.Tensor, nesting: int) -> torch.Tensor:
    """Move the draws of a site's value left of ``nesting`` batch dimensions."""
    event_dim = (
        len(message.fn.event_shape) if message.type == "sample" else message.kwargs.get("event_dim") or 0
    )
    own = value.shape[1:]
    while len(own) > nesting + event_dim and own[0] == 1:
        own = own[1:]
    if message.type == "sample":
        fitting(message, value[0])
    return value.reshape(value.shape[:1] + (1,) * (nesting + event_dim - len(own)) + own)


def _folded(name: str, value: torch.Tensor, size: int, shape: torch.Size) -> torch.Tensor:
    """Bring what a batch gave to shape (size, *shape)."""
    target = (size, *shape)
    if value.numel() == size * shape.numel():
        return value.reshape(target)
    if value.numel() == shape.numel():  # the same for all draws
        return value.reshape(shape).expand(target)
    raise InferenceError(
        f"site '{name}': expected a batch of {size} draws of shape {tuple(shape)}, got {tuple(value.shape)}; "
        "give parallel=False, or write the model for batch dimensions on the left"
    )
