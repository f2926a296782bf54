"""Draws in the lanes of a ``torch.func.vmap``.

``vmap`` maps deterministic code faithfully, but few families can draw under it. So the mapped
model stops at the first site without a value and hands out its distribution; the site is drawn
outside, lane by lane, and the model runs again with these values, until no site is left.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from brancher.distributions import Independent, MaskedDistribution
from brancher.distributions.validation import validation_enabled
from brancher.errors import UnsupportedError
from brancher.handlers import Message, Messenger, stack, substitute

if TYPE_CHECKING:
    from brancher.infer.replicate import Layout, Read, Run, Values

#: More sites to draw, or fewer draws, are not worth the repeated runs.
MOST_SITES, FEWEST_DRAWS = 12, 20


def why_no_lanes(layout: Layout, num_samples: int) -> str | None:
    """Say why lanes are not worth trying, or None."""
    sites = {name for record in layout.traces for name in record.stochastic_nodes} - set(layout.given)
    if len(sites) > MOST_SITES or num_samples < FEWEST_DRAWS:
        return f"lanes: not worth it for {len(sites)} sites and {num_samples} draws"
    if stack.current():
        return "lanes: not under other handlers"
    return None


def in_lanes(run: Run, read: Read, layout: Layout, given: Values, size: int) -> dict[str, torch.Tensor]:
    """Run the draws in the lanes of a ``vmap``.

    Raises:
        UnsupportedError: a distribution hides tensors where they are not found.
    """
    from brancher.infer.replicate import answers  # built on this module

    values = {**given, "": torch.arange(size)}  # never without an argument to map over
    while True:
        stopped: list[Message] = []

        def lane(now: Values, stopped: list[Message] = stopped) -> dict[str, Any]:
            with _Stop(), substitute(substitute_fn=answers(now)):
                try:
                    return dict(read(run()))
                except _Stopped as stop:
                    stopped.append(stop.message)
                    return {"": _tensors_of(stop.message.fn)}

        with validation_enabled(False), stack.restored():
            result: dict[str, Any] = torch.func.vmap(lane)(values)
            if not stopped:
                return result
            values[stopped[0].name] = _draw(stopped[0], result[""], size)


class _Stopped(Exception):
    """The model has reached a site without a value."""

    def __init__(self, message: Message) -> None:
        self.message = message


class _Stop(Messenger):
    """Stop at the first site that would be drawn; the outermost handler, so that all others have spoken."""

    def process_message(self, message: Message) -> None:
        if message.type == "sample" and message.value is None:
            raise _Stopped(message)
        if message.type == "plate" and message.value is None:
            raise UnsupportedError("rows of a subsampled plate are drawn inside")


def _draw(message: Message, tensors: list[torch.Tensor], size: int) -> torch.Tensor:
    shape = message.args[0] if message.args else ()
    if not shape and _is_elementwise(message.fn):  # the usual case, all lanes at once
        drawn: torch.Tensor = _widened(_rebuilt(message.fn, tensors), size).sample()
        return drawn
    return torch.stack([_rebuilt(message.fn, [t[i] for t in tensors]).sample(shape) for i in range(size)])


def _is_elementwise(fn: Any) -> bool:
    """Whether all of a law's tensors have its batch shape, so that one more dimension on the left is safe."""
    while isinstance(fn, (Independent, MaskedDistribution)):
        fn = fn.base_dist
    plain = all(_is_leaf(item) for item in vars(fn).values())
    return plain and not fn.event_shape and all(t.shape == fn.batch_shape for t in _tensors_of(fn))


def _is_leaf(thing: Any) -> bool:
    return isinstance(thing, (torch.Tensor, torch.Size, bool, int, float, str, type(None)))


def _widened(fn: Any, size: int) -> Any:
    fn._batch_shape = torch.Size([size]) + fn.batch_shape
    if isinstance(fn, (Independent, MaskedDistribution)):
        _widened(fn.base_dist, size)
    return fn


def _tensors_of(fn: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    _mapped(fn, note)
    return found


def _rebuilt(fn: Any, tensors: list[torch.Tensor]) -> Any:
    following = iter(tensors)
    return _mapped(fn, lambda _: next(following))


def _mapped(thing: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A copy of a distribution with every tensor inside changed."""
    if isinstance(thing, torch.Tensor):
        return change(thing)
    if type(thing) in (list, tuple):
        return type(thing)(_mapped(item, change) for item in thing)
    if type(thing) is dict:
        return {key: _mapped(item, change) for key, item in thing.items()}
    if hasattr(thing, "log_prob") or isinstance(thing, torch.distributions.Transform):
        twin = copy.copy(thing)
        for key, item in list(vars(twin).items()):
            vars(twin)[key] = _mapped(item, change)
        return twin
    return thing
