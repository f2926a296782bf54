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

    Raises:
        HandlerError: ``history`` is negative.

    Example:
        >>> x = torch.tensor(0.0)
        >>> for t in markov(range(3)):
        ...     x = sample(f"x_{t}", dist.Normal(x, 1.0))
    """

    def __init__(self, over: Iterable[Any] | Callable[..., Any] | None = None, history: int = 1) -> None:
        if isinstance(history, bool) or not isinstance(history, int) or history < 0:
            raise HandlerError(f"markov: expected history as an int >= 0, got {history!r}")
        self.over, self.history = over, history
        self._step = 0

    def _scope(self, step: int) -> MarkovScope:
        depth = sum(isinstance(entry, MarkovScope) for entry in stack.current())
        scope = MarkovScope(depth, step, self.history)
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
            fn = args[0]
            return functools.wraps(fn)(markov(fn, history=self.history).__call__)
        if not callable(self.over):
            raise HandlerError(f"markov: expected a function, got {type(self.over).__name__}")
        # A function that calls itself is one step deeper each time.
        step = sum(entry.origin is self for entry in stack.current())
        with self._scope(step):
            return self.over(*args, **kwargs)
