"""``markov``: a loop, or a block, whose steps depend only on the last few."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from brancher.errors import HandlerError
from brancher.handlers import stack
from brancher.handlers.markov import MarkovScope


class markov:  # noqa: N801
    """State the Markov property of a loop, a block or a recursive function.

    Args:
        over: an iterable (``for t in markov(range(10))``), a function to wrap, or None to use
            the object as a context manager.
        history: how many previous steps a step depends on, >= 0.
        keep: for a function that calls itself several times: whether a call sees all calls of its
            caller, and the caller all their values, instead of the last ``history`` ones.

    Raises:
        HandlerError: ``history`` is negative.

    Example:
        >>> x = torch.tensor(0.0)
        >>> for t in markov(range(3)):
        ...     x = sample(f"x_{t}", dist.Normal(x, 1.0))
    """

    def __init__(
        self,
        over: Iterable[Any] | Callable[..., Any] | None = None,
        history: int = 1,
        keep: bool = False,
    ) -> None:
        if isinstance(history, bool) or not isinstance(history, int) or history < 0:
            raise HandlerError(f"markov: expected history as an int >= 0, got {history!r}")
        self.over, self.history, self.keep = over, history, keep
        self._step = 0

    def _scope(self, step: int, is_call: bool = False) -> MarkovScope:
        depth = sum(isinstance(entry, MarkovScope) for entry in stack.current())
        scope = MarkovScope(depth, step, self.history, is_call)
        scope.origin = self
        return scope

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self.over, Iterable):
            raise HandlerError(
                f"markov: expected an iterable, got {type(self.over).__name__}; "
                "write for t in markov(range(10))"
            )
        for step, item in enumerate(self.over):
            with self._scope(step):
                yield item

    def __enter__(self) -> markov:
        stack.push(self._scope(self._step))
        self._step += 1
        return self

    def __exit__(self, *exc: Any) -> None:
        stack.pop(self)  # type: ignore[arg-type]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the wrapped function, or wrap one, as a step."""
        if self.over is None:
            return _wrapped(args[0], self.history, self.keep)
        if not callable(self.over):
            raise HandlerError(f"markov: expected a function, got {type(self.over).__name__}")
        # A function that calls itself is one step deeper each time.
        step = sum(entry.origin is self for entry in stack.current())
        with self._scope(step, is_call=True):
            return self.over(*args, **kwargs)


def _wrapped(fn: Callable[..., Any], history: int, keep: bool) -> Callable[..., Any]:
    each = markov(fn, history, keep)

    @functools.wraps(fn)
    def step(*args: Any, **kwargs: Any) -> Any:
        return each(*args, **kwargs)

    return step
