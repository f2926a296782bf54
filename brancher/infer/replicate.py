"""Run a model once for every draw: all draws as one batch, or one after the other.

A batch puts the draws into one dimension left of everything the model uses. Whether a model
allows that is found out by running two draws as a batch and each of them alone.
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
from brancher.handlers.density import SCORED, score
from brancher.infer.particles import particle_plate

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


class Replicas(NamedTuple):
    """What was read, with the draws on the left, and whether they were run as a batch."""

    values: dict[str, torch.Tensor]
    vectorized: bool


def lay_out(run: Run, given: Values) -> Layout:
    """Run once on the first draw, leaving random state and gradients alone.

    Raises:
        InferenceError: a given value does not have its site's shape.
    """
    with _aside(), substitute(substitute_fn=lambda message: _first(given, message)):
        traces = run()
    sites = [site for record in traces for site in record.sites()]
    plates = [-frame.dim for site in sites for frame in site.frames if frame.dim is not None]
    batches = [len(site.fn.batch_shape) for site in sites if site.type in SCORED]
    return Layout(traces, max([0, *plates, *batches]), dict(given))


def _first(given: Values, message: Message) -> torch.Tensor | None:
    value = given.get(message.name)
    if value is None:
        return None
    return _fitting(message, value[0])


def _fitting(message: Message, value: torch.Tensor) -> torch.Tensor:
    """One draw's value for a site, without dimensions of size 1 that the site does not have.

    Raises:
        InferenceError: the shapes do not fit, naming both.
    """
    if message.type != "sample":
        return value
    shape = tuple(message.fn.batch_shape) + tuple(message.fn.event_shape)
    while value.dim() > len(shape) and value.shape[0] == 1:
        value = value.squeeze(0)
    try:
        fits = tuple(torch.broadcast_shapes(value.shape, shape)) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise InferenceError(
            f"site '{message.name}': expected samples of shape (draws, {', '.join(map(str, shape))}), got "
            f"{tuple(value.shape)} after the draws; give batch_ndims=2 for samples grouped by chain, or the "
            "arguments that the samples belong to"
        )
    return value


@contextmanager
def _aside() -> Iterator[None]:
    """Run functions for what they show: no gradient, no warning, the random state as before."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def replicate(
    run: Run,
    read: Read,
    layout: Layout,
    num_samples: int,
    vectorized: bool,
    batch_size: int | None = None,
) -> Replicas:
    """Run for every draw and collect what is read.

    Args:
        run: one run; latent sites named in ``layout.given`` take their values from there.
        read: what to take out of its traces.
        layout: see :func:`lay_out`.
        num_samples: how many draws, > 0.
        vectorized: whether as a batch.
        batch_size: how many draws in one batch; None for all.

    Raises:
        InferenceError: what is read has not one shape in all runs.
    """
    with torch.no_grad():
        if not vectorized:
            return Replicas(_in_loop(run, read, layout.given, num_samples), False)
        shapes = {name: value.shape for name, value in read(layout.traces).items()}
        step = batch_size or num_samples
        chunks = []
        for start in range(0, num_samples, step):
            given = {name: value[start : start + step] for name, value in layout.given.items()}
            size = min(step, num_samples - start)
            chunks.append(_as_batch(run, read, given, size, layout.nesting, shapes))
        return Replicas({name: torch.cat([c[name] for c in chunks]) for name in chunks[0]}, True)


def _in_loop(run: Run, read: Read, given: Values, num_samples: int) -> dict[str, torch.Tensor]:
    rows = []
    for i in range(num_samples):
        now = {name: value[i] for name, value in given.items()}
        # What holds for the first draw's shapes holds for the others'.
        with validation_enabled(is_validating() and i == 0), substitute(substitute_fn=_answers(now)):
            rows.append(read(run()))
    return {name: _stacked(name, rows) for name in rows[0]}


def _answers(now: Values) -> Callable[[Message], torch.Tensor | None]:
    def answer(message: Message) -> torch.Tensor | None:
        value = now.get(message.name)
        return None if value is None else _fitting(message, value)

    return answer


def _stacked(name: str, rows: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    values = [row[name] for row in rows]
    shapes = sorted({tuple(value.shape) for value in values})
    if len(shapes) > 1:
        raise InferenceError(
            f"site '{name}': expected one shape in all draws, got {shapes[0]} and {shapes[1]}; leave it "
            "out of "
            "return_sites, or run its draws one by one"
        )
    return torch.stack(values)


def _as_batch(
    run: Run, read: Read, given: Values, size: int, nesting: int, shapes: Mapping[str, torch.Size]
) -> dict[str, torch.Tensor]:
    def answer(message: Message) -> torch.Tensor | None:
        value = given.get(message.name)
        return None if value is None else _spread(message, value, nesting)

    with particle_plate(size, nesting), substitute(substitute_fn=answer):
        values = read(run())
    return {name: _folded(name, value, size, shapes[name]) for name, value in values.items()}


def _spread(message: Message, value: torch.Tensor, nesting: int) -> torch.Tensor:
    """Move the draws of a site's value left of ``nesting`` batch dimensions."""
    event_dim = (
        len(message.fn.event_shape) if message.type == "sample" else message.kwargs.get("event_dim") or 0
    )
    own = value.shape[1:]
    while len(own) > nesting + event_dim and own[0] == 1:
        own = own[1:]
    if message.type == "sample":
        _fitting(message, value[0])
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


def why_not_batched(run: Run, layout: Layout) -> str | None:
    """Say why a batch of draws would be wrong, or None where it is right.

    Two draws are run as a batch, then each alone with the same values. Every value and every
    log-density must be the same both times.
    """
    with _aside(), validation_enabled(False):
        two = _two_draws(layout.given)
        try:
            shapes = {name: value.shape for name, value in _everything(layout.traces).items()}
            pair = _as_batch(run, _everything, two, 2, layout.nesting, shapes)
        except Exception as error:  # whatever the user's code raises on a batch
            return f"a batch of draws fails ({type(error).__name__}: {error})"
        for i in range(2):
            now = {
                name.removeprefix(_VALUE): v[i, None] for name, v in pair.items() if name.startswith(_VALUE)
            }
            try:
                alone = _in_loop(run, _everything, now, 1)
            except Exception as error:
                return f"a single draw fails ({type(error).__name__}: {error})"
            for name, value in alone.items():
                if name not in pair or not _close(pair[name][i], value[0]):
                    return f"the {name} mixes the draws of a batch"
    return None


def _two_draws(given: Values) -> dict[str, torch.Tensor]:
    """The first draw and one that differs from it: two equal ones would hide that draws are mixed."""
    if not given:
        return {}
    rows = torch.cat([value.reshape(value.shape[0], -1).double().cpu() for value in given.values()], dim=1)
    differs = (rows != rows[0]).any(1).nonzero()
    other = int(differs[0]) if len(differs) else 0
    return {name: value[[0, other]] for name, value in given.items()}


_VALUE = "value of "


def _everything(traces: Sequence[Trace]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for number, record in enumerate(traces):
        for site in record.sites("sample", "deterministic", "factor", "plate"):
            if site.type != "factor":
                found[_VALUE + site.name] = site.value
            if site.type in SCORED:
                found[f"log-density {number} of {site.name}"] = score(site)
        value = record.nodes["_RETURN"].value if "_RETURN" in record else None
        if isinstance(value, torch.Tensor):
            found[f"return value {number}"] = value
    return found


def _close(together: torch.Tensor, alone: torch.Tensor) -> bool:
    if together.shape != alone.shape:
        return False
    together, alone = together.double(), alone.double()
    size = float(alone[torch.isfinite(alone)].abs().max()) if bool(torch.isfinite(alone).any()) else 1.0
    return torch.allclose(together, alone, rtol=1e-3, atol=1e-4 * size, equal_nan=True)
