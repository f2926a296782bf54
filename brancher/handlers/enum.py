"""``enum``: run a function with all values of its discrete sites at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from brancher.errors import HandlerError, SiteError
from brancher.handlers import stack
from brancher.handlers.markov import MarkovScope
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger

if TYPE_CHECKING:
    from typing_extensions import Self


class _Seen(NamedTuple):
    """A latent site that has been passed.

    Attributes:
        steps: which steps of which markov loops it was in.
        dims: the variables that its value varies with, by dimension.
    """

    steps: tuple[tuple[object, int], ...]
    dims: dict[int, str]


class enum(Messenger):  # noqa: N801
    """Give every site marked ``infer={"enumerate": "parallel"}`` all values of its support at once.

    The values lie along a batch dimension of the site's own, left of all plates, so one run computes
    every combination; with ``"expand": True`` beside the mark they fill the other dimensions too. Steps
    of a ``markov`` loop that do not see each other share dimensions, so that loops may be long.
    ``message.enumerated`` says which variable a dimension of a site's tensors is.

    Args:
        fn: the function to run.
        first_available_dim: rightmost dimension to use, < 0, left of every plate.
        also_sequential: whether sites marked "sequential" are taken as well.
        given: what replayed sites vary with, by name: dimension to variable.

    Raises:
        HandlerError: ``first_available_dim`` is no int < 0.

    Example:
        >>> model = lambda: sample("x", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        >>> enum(model, first_available_dim=-2)()
        tensor([[0.],
                [1.]])
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        first_available_dim: int = -1,
        also_sequential: bool = False,
        given: Mapping[str, Mapping[int, str]] | None = None,
    ) -> None:
        super().__init__(fn)
        if type(first_available_dim) is not int or first_available_dim >= 0:
            raise HandlerError(
                f"enum: expected first_available_dim as an int < 0, got {first_available_dim!r}; give "
                "-1 - max_plate_nesting"
            )
        self.first_available_dim, self.also_sequential = first_available_dim, also_sequential
        self.given = given or {}
        self._seen: dict[str, _Seen] = {}
        self._last: dict[object, int] = {}

    def fresh(self) -> Self:
        """Start with no variable in scope."""
        entry = copy.copy(self)
        entry.origin, entry._seen, entry._last = self, {}, {}
        return entry

    def process_message(self, message: Message) -> None:
        """Say what is in scope at the site, and give it all values if it is to be enumerated."""
        if message.type not in ("sample", "factor"):
            return
        message.enumerated = self._in_scope()
        if self._is_chosen(message):
            dim = self.first_available_dim
            while dim in message.enumerated:
                dim -= 1
            message.value = _all_values(message, dim)
            message.enumerated[dim] = message.name

    def postprocess_message(self, message: Message) -> None:
        """Remember what the site's value varies with."""
        if message.type != "sample" or message.is_observed or message.enumerated is None:
            return
        message.enumerated.update(self.given.get(message.name, {}))
        dims = value_dims(message)
        # A function that calls itself is in the same loop several times; the innermost step counts.
        steps = tuple({scope.origin or scope: scope.step for scope in _scopes()}.items())
        for loop, step in steps:
            self._last[loop] = max(step, self._last.get(loop, 0))
        self._seen[message.name] = _Seen(steps, dims)

    def _is_chosen(self, message: Message) -> bool:
        if message.type != "sample" or message.is_observed or message.value is not None:
            return False
        kind = message.infer.get("enumerate")
        if kind not in (None, "parallel", "sequential"):
            raise SiteError(
                f"site '{message.name}': expected infer={{'enumerate': ...}} as 'parallel', 'sequential' or "
                f"None, got {kind!r}; write infer={{'enumerate': 'parallel'}} to sum the site out"
            )
        in_plate = any(frame.dim is not None for frame in message.frames)
        # Python can not branch on the value of a whole plate, so there is nothing to run one by one.
        return kind == "parallel" or (kind == "sequential" and (in_plate or self.also_sequential))

    def _in_scope(self) -> dict[int, str]:
        """The variables that a site here may depend on, by dimension."""
        now = {scope.origin or scope: (scope.step, scope.history) for scope in _scopes()}
        found: dict[int, str] = {}
        for seen in self._seen.values():
            if all(self._reaches(loop, step, now) for loop, step in seen.steps):
                found.update(seen.dims)
        return found

    def _reaches(self, loop: object, step: int, now: Mapping[object, tuple[int, int]]) -> bool:
        """Whether a step of a loop can be seen from here."""
        if loop in now:
            current, history = now[loop]
            return current - step <= history
        return self._last[loop] - step < max(1, getattr(loop, "history", 1))


def value_dims(site: Message) -> dict[int, str]:
    """The enumerated variables that a site's value varies with, by dimension."""
    value: torch.Tensor = site.value
    batch = value.shape[: value.dim() - len(site.fn.event_shape)]
    known = site.enumerated or {}
    return {dim: name for dim, name in known.items() if len(batch) >= -dim and batch[dim] > 1}


def _scopes() -> list[MarkovScope]:
    return [entry for entry in stack.current() if isinstance(entry, MarkovScope)]


def _all_values(message: Message, dim: int) -> torch.Tensor:
    """Every value of a site's support along one dimension."""
    fn: Any = message.fn
    if not getattr(fn, "has_enumerate_support", False):
        raise SiteError(
            f"site '{message.name}': expected a distribution with a finite support to enumerate, got "
            f"{type(fn).__name__}; take 'enumerate' out of its infer options"
        )
    values: torch.Tensor = fn.enumerate_support(expand=False)
    values = values.reshape(values.shape[:1] + (1,) * (-1 - dim) + fn.event_shape)
    if message.infer.get("expand"):
        values = values.expand(torch.broadcast_shapes(values.shape, fn.batch_shape + fn.event_shape))
    return values
