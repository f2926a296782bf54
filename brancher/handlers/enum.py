"""``enum``: run a function with all values of its discrete sites at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from brancher.distributions.shapes import broadcast_shapes
from brancher.errors import HandlerError, SiteError
from brancher.handlers import stack
from brancher.handlers.markov import MarkovScope
from brancher.handlers.message import Message
from brancher.handlers.messenger import Messenger

if TYPE_CHECKING:
    from typing_extensions import Self


#: Calls of one markov function inside each other.
Path: TypeAlias = tuple[MarkovScope, ...]


class _Seen(NamedTuple):
    """A latent site that has been passed.

    Attributes:
        name: the site.
        steps: which steps of which markov loops it was in.
        calls: which calls of which markov functions, the outermost first.
        dims: the variables that its value varies with, by dimension.
    """

    name: str
    steps: tuple[tuple[object, int], ...]
    calls: dict[object, Path]
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
        allow_draws: whether sites with ``"num_samples"`` beside their mark have so many draws.

    Raises:
        HandlerError: ``first_available_dim`` is no int < 0.
        SiteError: a site with draws where these are not allowed, or a law without a finite support.

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
        allow_draws: bool = False,
    ) -> None:
        super().__init__(fn)
        if type(first_available_dim) is not int or first_available_dim >= 0:
            raise HandlerError(
                f"enum: expected first_available_dim as an int < 0, got {first_available_dim!r}; give "
                "-1 - max_plate_nesting"
            )
        self.first_available_dim, self.also_sequential = first_available_dim, also_sequential
        self.given, self.allow_draws = given or {}, allow_draws
        self._seen: dict[str, _Seen] = {}
        self._last: dict[object, int] = {}
        self._called: dict[tuple[object, Path], list[MarkovScope]] = {}

    def fresh(self) -> Self:
        """Start with no variable in scope."""
        entry = copy.copy(self)
        entry.origin, entry._seen, entry._last, entry._called = self, {}, {}, {}
        return entry

    def process_message(self, message: Message) -> None:
        """Say what is in scope at the site, and give it all values if it is to be enumerated."""
        if message.type not in ("sample", "factor"):
            return
        message.enumerated = self._in_scope(message)
        if self._is_chosen(message):
            dim = self.first_available_dim
            while dim in message.enumerated or _varies(message, dim):
                dim -= 1
            wanted = message.infer.get("num_samples")
            if wanted is None:
                message.value = _all_values(message, dim)
            elif self.allow_draws:
                message.value = _some_values(message, dim, wanted)
            else:
                raise SiteError(
                    f"site '{message.name}': expected all values of the site, got num_samples={wanted} in "
                    "its infer options; use TraceTMC_ELBO for draws, or leave num_samples out"
                )
            message.enumerated[dim] = message.name

    def postprocess_message(self, message: Message) -> None:
        """Remember what the site's value varies with."""
        if message.type != "sample" or message.is_observed or message.enumerated is None:
            return
        message.enumerated.update(self.given.get(message.name, {}))
        dims = value_dims(message)
        steps = _steps()
        for loop, step in steps.items():
            self._last[loop] = max(step, self._last.get(loop, 0))
        self._seen[message.name] = _Seen(message.name, tuple(steps.items()), self._note_calls(), dims)

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

    def _in_scope(self, message: Message) -> dict[int, str]:
        """The variables that a site here may depend on, by dimension.

        Raises:
            HandlerError: the site varies along a dimension that two of them share.
        """
        now = {scope.origin or scope: (scope.step, scope.history) for scope in _scopes()}
        calls = self._note_calls()
        found: dict[int, str] = {}
        for seen in self._seen.values():
            if not all(self._reaches(loop, step, now) for loop, step in seen.steps):
                continue
            if not all(self._reaches_call(fn, path, calls.get(fn, ())) for fn, path in seen.calls.items()):
                continue
            for dim, name in seen.dims.items():
                other = found.setdefault(dim, name)
                if other != name and _varies(message, dim):
                    raise HandlerError(
                        f"site '{message.name}': expected one of the enumerated sites '{other}' and '{name}' "
                        "to be out of reach by markov, got a density that may depend on both; give markov a "
                        "larger history, or keep=True for a function that calls itself"
                    )
        return found

    def _reaches(self, loop: object, step: int, now: Mapping[object, tuple[int, int]]) -> bool:
        """Whether a step of a loop can be seen from here."""
        if loop in now:
            current, history = now[loop]
            return current - step <= history
        return self._last[loop] - step < max(1, getattr(loop, "history", 1))

    def _reaches_call(self, fn: object, then: Path, now: Path) -> bool:
        """Whether a call of a function can be seen from the call here.

        A call sees its callers, ``history`` of them; what its own calls returned; and the calls that its
        caller made before.
        """
        shared = 0
        while shared < min(len(then), len(now)) and then[shared] is now[shared]:
            shared += 1
        up, down = len(now) - shared, len(then) - shared
        history: int = getattr(fn, "history", 1)
        if not down:
            return up <= history
        reach = max(1, history)
        if down + max(0, up - 1) > reach:
            return False
        calls = self._called[fn, then[:shared]]
        here = calls.index(now[shared]) if up else len(calls)
        return getattr(fn, "keep", False) or here - calls.index(then[shared]) <= reach

    def _note_calls(self) -> dict[object, Path]:
        """The calls of markov functions that go on here; they are numbered as they come."""
        paths: dict[object, Path] = {}
        for scope in _scopes():
            if scope.is_call:
                fn = scope.origin or scope
                path = paths.get(fn, ())
                calls = self._called.setdefault((fn, path), [])
                if scope not in calls:
                    calls.append(scope)
                paths[fn] = (*path, scope)
        return paths


def value_dims(site: Message) -> dict[int, str]:
    """The enumerated variables that a site's value varies with, by dimension."""
    value: torch.Tensor = site.value
    batch = value.shape[: value.dim() - len(site.fn.event_shape)]
    known = site.enumerated or {}
    return {dim: name for dim, name in known.items() if len(batch) >= -dim and batch[dim] > 1}


def _scopes() -> list[MarkovScope]:
    return [entry for entry in stack.current() if isinstance(entry, MarkovScope)]


def _steps() -> dict[object, int]:
    """The steps of loops that go on here."""
    return {scope.origin or scope: scope.step for scope in _scopes() if not scope.is_call}


def _varies(message: Message, dim: int) -> bool:
    batch = message.fn.batch_shape
    return len(batch) >= -dim and batch[dim] > 1


def _some_values(message: Message, dim: int, count: int) -> torch.Tensor:
    """Draws along one dimension, and ``infer["log_proposal"]``, the density that each was drawn with.

    Where the law varies with draws of earlier sites, the k-th draw is that given their k-th draws.
    """
    fn: Any = message.fn
    earlier = [d for d in message.enumerated or () if _varies(message, d)]
    if any(fn.batch_shape[d] != count for d in earlier):
        raise SiteError(
            f"site '{message.name}': expected num_samples={count} for all sites that it depends on, got "
            f"{[fn.batch_shape[d] for d in earlier]}; give all sites one num_samples"
        )
    if earlier:
        draws, rank = (fn.rsample() if fn.has_rsample else fn.sample()), len(fn.event_shape)
        density = _diagonal(fn.log_prob(draws), earlier, dim)
        values = _diagonal(draws, [d - rank for d in earlier], dim - rank)
    else:
        values = fn.rsample((count,)) if fn.has_rsample else fn.sample((count,))
        density = fn.log_prob(values)
        batch = values.shape[1 : values.dim() - len(fn.event_shape)]
        ones = (1,) * (-1 - dim - len(batch))
        values = values.reshape((count, *ones, *batch, *fn.event_shape))
        density = density.reshape((count, *ones, *batch))
    message.infer["log_proposal"] = density
    return values


def _diagonal(tensor: torch.Tensor, dims: list[int], target: int) -> torch.Tensor:
    """Entries whose indices agree along some dimensions; they come to lie along ``target``, a free one."""
    rank = max(tensor.dim(), -target)
    tensor = tensor.reshape((1,) * (rank - tensor.dim()) + tensor.shape)
    first, *others = (rank + dim for dim in dims)
    for other in others:
        low, high = min(first, other), max(first, other)
        tensor = tensor.diagonal(dim1=low, dim2=high).movedim(-1, low).unsqueeze(high)
        first = low
    return tensor.transpose(first, rank + target)


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
        values = values.expand(broadcast_shapes(values.shape, fn.batch_shape + fn.event_shape))
    return values
