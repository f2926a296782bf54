"""``trace``: record what a function did."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from brancher.distributions.validation import is_validating
from brancher.errors import DistributionError, HandlerError, PlateError, SiteError, add_place
from brancher.handlers import stack
from brancher.handlers.arguments import hint_for, refuse_arguments
from brancher.handlers.message import Frame, Message
from brancher.handlers.messenger import Messenger
from brancher.handlers.record import Trace
from brancher.params import show_leaf, undone_on_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

#: Message types that become sites.
RECORDED = frozenset({"sample", "param", "deterministic", "factor", "plate"})


class trace(Messenger):  # noqa: N801
    """Record the sites of a function.

    Args:
        fn: the function to record.
        graph_type: accepted for programs written for Pyro; every trace is flat.
        param_only: record parameters alone.

    Example:
        >>> with trace() as recorder:
        ...     x = sample("x", dist.Normal(0.0, 1.0))
        >>> recorder.trace.nodes["x"]["value"] is x
        True
        >>> trace(lambda: sample("x", dist.Normal(0.0, 1.0))).get_trace().stochastic_nodes
        ['x']
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        graph_type: str | None = None,
        param_only: bool | None = False,
    ) -> None:
        super().__init__(fn)
        self.param_only = bool(param_only)
        self.trace = Trace()
        self._plates: dict[str, Frame] = {}

    def fresh(self) -> Self:
        """Start a new record; the handler in the user's hand shows the latest one."""
        self.trace = Trace()
        entry = copy.copy(self)
        entry.origin, entry._plates = self, {}
        return entry

    def get_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Run the function and return its trace; without a function, a copy of what a block recorded.

        Raises:
            HandlerError: there are arguments, but no function to run.
        """
        if self.fn is None:
            if args or kwargs:
                raise HandlerError(
                    "trace: expected a function to record, got none; write trace(fn).get_trace()"
                )
            return self.trace.copy()
        recorder = trace(param_only=self.param_only)
        record = recorder.trace
        with stack.restored(), undone_on_error():
            stack.push(recorder)
            if not self.param_only:
                record.add_node("_INPUT", Message("args", "_INPUT", self.fn, args, kwargs))
            try:
                value = self.fn(*args, **kwargs)
            except DistributionError as error:
                before = [name for name in record.nodes if name != "_INPUT"]
                place = f"after site '{before[-1]}'" if before else "before the first site"
                add_place(error, f"in the program, {place}", unless="in the program")
                raise
            except TypeError as error:
                refuse_arguments(self.fn, args, kwargs, error)
                raise
            except (RuntimeError, IndexError) as error:
                if hint := hint_for(error):
                    add_place(error, hint)
                raise
        if not self.param_only:
            record.add_node("_RETURN", Message("return", "_RETURN", self.fn, value=value))
        self.trace = record
        return record

    def postprocess_message(self, message: Message) -> None:
        """Record the site, refusing a name that is taken."""
        kind = message.type
        if kind not in RECORDED or (self.param_only and kind != "param"):
            return
        name, nodes = message.name, self.trace.nodes
        if name in nodes:
            self._refuse_twice(nodes[name], message)
        if message.frames and is_validating():
            self._check_plates(message)
        if message.unconstrained is not None and isinstance(message.value, torch.Tensor):
            show_leaf(message.value, message.unconstrained)
        nodes[name] = message

    def _check_plates(self, message: Message) -> None:
        for frame in message.frames:
            if frame.name == message.name:
                raise SiteError(
                    f"site '{message.name}': expected one site of each name, got a second one (plate, then "
                    f"{message.type}); give each its own name"
                )
            first = self._plates.setdefault(frame.name, frame)
            if (first.size, first.full_size) != (frame.size, frame.full_size):
                raise PlateError(
                    f"plate '{frame.name}': expected one size in the whole model, got {first.full_size} "
                    f"({first.size} rows present) and, at site '{message.name}', {frame.full_size} "
                    f"({frame.size} rows present); give each plate its own name"
                )

    def _refuse_twice(self, first: Message, second: Message) -> None:
        if first.type == second.type == "param":
            return  # reading a parameter twice is one parameter
        if first.type == second.type == "plate" and first.value is second.value:
            return  # one plate entered twice
        raise SiteError(
            f"site '{second.name}': expected one site of each name, got a second one "
            f"({first.type}, then {second.type}); give each its own name"
        )
