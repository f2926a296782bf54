"""``replay``: run a function with the draws of another trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import torch

from brancher.distributions.validation import is_validating
from brancher.errors import GuideError, HandlerTypeError
from brancher.handlers import stack
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger
from brancher.handlers.record import Trace


class replay(Messenger):  # noqa: N801
    """Give latent sites, and subsampled plates, the values that a trace recorded for them.

    The sites stay latent: their density is the one of the replayed function.

    Args:
        fn: the function to run, usually a model.
        trace: the trace to take values from, usually a guide's.
        params: parameter values by name, taken in place of the store's.

    Raises:
        GuideError: the trace observed a site that is latent here.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> first = trace(model).get_trace()
        >>> bool(replay(model, trace=first)() == first.nodes["x"]["value"])
        True
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        trace: Trace | Mapping[str, Message] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(fn)
        if trace is None and params is None:
            raise HandlerTypeError(
                "replay: expected a trace or params, got neither; write replay(fn, trace=t)"
            )
        if not isinstance(trace, (Trace, NoneType)) and not _are_sites(trace):
            raise HandlerTypeError(
                f"replay: expected trace as a Trace, got {type(trace).__name__}; write replay(fn, "
                "trace=handlers.trace(guide).get_trace()), or substitute(fn, data={...}) for values by name"
            )
        self.trace = trace
        self.nodes: Mapping[str, Message] = trace.nodes if isinstance(trace, Trace) else trace or {}
        self.params = params or {}

    def process_message(self, message: Message) -> None:
        """Set the recorded value."""
        kind = message.type
        if kind == "sample":
            if message.is_observed:
                return
            site = self.nodes.get(message.name)
            if site is None:
                return
            if site.type != "sample" or site.is_observed:
                raise GuideError(
                    f"replay: expected site '{message.name}' as a latent sample site in the trace, got "
                    f"{'an observed one' if site.is_observed else site.type}; sample it without obs"
                )
            if is_validating():
                _check_plates(message, site)
                _check_event(message, site)
            message.value = site.value
        elif kind == "plate" and message.value is None:
            site = self.nodes.get(message.name)
            if site is not None and site.type == "plate":
                message.value = site.value
        elif kind == "param" and message.name in self.params:
            message.value = self.params[message.name]


def replayed_rows(name: str) -> bool:
    """Whether a replayed trace says which rows of a plate are present."""
    for entry in stack.current():
        if isinstance(entry, replay):
            site = entry.nodes.get(name)
            if site is not None and site.type == "plate":
                return True
    return False


def _are_sites(trace: Any) -> bool:
    return isinstance(trace, Mapping) and all(isinstance(site, Message) for site in trace.values())


def _check_plates(message: Message, site: Message) -> None:
    """Refuse a value that was drawn for another number of rows."""
    theirs = {frame.name: frame.size for frame in site.frames}
    for frame in message.frames:
        if theirs.get(frame.name, frame.size) != frame.size:
            raise GuideError(
                f"plate '{frame.name}': expected size {frame.size} as at site '{message.name}' of the model, "
                f"got {theirs[frame.name]} in the trace or guide; give both the same size and rows"
            )


def _check_event(message: Message, site: Message) -> None:
    """Refuse a value whose rightmost dimensions are not the event of the site here."""
    event = tuple(getattr(message.fn, "event_shape", ()))
    value = site.value
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else event
    if event and shape[-len(event) :] != event:
        raise GuideError(
            f"replay: expected a value of event shape {event} for site '{message.name}', got shape {shape} "
            "in the trace or guide; give the site the same shape and to_event in both"
        )
