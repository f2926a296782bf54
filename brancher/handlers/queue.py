"""``queue``: run a function from partial traces in a queue, putting back one for each way to go on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from brancher.errors import HandlerError, HandlerTypeError
from brancher.handlers import stack
from brancher.handlers.escape import NonlocalExit, escape
from brancher.handlers.message import Message
from brancher.handlers.record import Trace
from brancher.handlers.replay import replay
from brancher.handlers.trace import trace


class TraceQueue(Protocol):
    """What :func:`queue` asks of a queue; ``queue.Queue`` and its kin have it."""

    def get(self) -> Trace:
        """Take a trace."""

    def put(self, item: Trace) -> None:
        """Add a trace."""


def extend_by_support(record: Trace, site: Message, num_samples: int | None = None) -> Iterator[Trace]:
    """Continue a partial trace by every value of the support of the site at which it ended.

    Args:
        record: the trace so far.
        site: where it ended.
        num_samples: at most so many values; None or a negative number for all.
    """
    values = site.fn.enumerate_support()
    count = len(values) if num_samples is None or num_samples < 0 else min(num_samples, len(values))
    for value in values[:count]:
        extended = record.copy()
        chosen = site.copy()
        chosen.value = value
        extended.add_node(site.name, chosen)
        yield extended


def is_new_discrete(record: Trace, site: Message) -> bool:
    """Whether a site is latent, discrete with values to go through, and not in the trace yet."""
    has_support = getattr(site.fn, "has_enumerate_support", False)
    return not site.is_observed and has_support and site.name not in record


def queue(
    fn: Callable[..., Any] | None = None,
    queue: TraceQueue | None = None,
    max_tries: int | None = None,
    extend_fn: Callable[..., Iterator[Trace]] | None = None,
    escape_fn: Callable[[Trace, Message], bool] | None = None,
    num_samples: int | None = None,
) -> Any:
    """Run a function replayed on the next trace of a queue, until one run comes to its end.

    A run that meets a site which its trace lacks ends there, and the queue gets a longer trace for
    each value of that site. Emptying the queue so goes through all executions of a discrete program.

    Args:
        fn: the function to run; None to decorate one.
        queue: traces to start from; put an empty ``Trace()`` into it first.
        max_tries: how many runs may end early; None for no bound.
        extend_fn: from a trace and a site to the traces that continue it; by default one for each
            value of the site's support.
        escape_fn: tells for a trace and a site whether the run ends there; by default at discrete latent
            sites that the trace lacks.
        num_samples: at most so many continuations of one trace; None for all.

    Raises:
        HandlerTypeError: there is no queue.
        HandlerError: ``max_tries`` runs ended early.

    Example:
        >>> from queue import Queue
        >>> todo = Queue()
        >>> todo.put(handlers.Trace())
        >>> coin = handlers.queue(lambda: sample("x", dist.Bernoulli(0.5)), queue=todo)
        >>> coin(), coin(), todo.empty()
        (tensor(0.), tensor(1.), True)
    """
    if queue is None:
        raise HandlerTypeError(
            "queue: expected a queue with a trace in it, got None; write queue(fn, queue=todo)"
        )
    todo = queue
    extend, leaves = extend_fn or extend_by_support, escape_fn or is_new_discrete

    def wrap(wrapped: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(wrapped)
        def run(*args: Any, **kwargs: Any) -> Any:
            tries, marks = 0, _records_around()
            while max_tries is None or tries < max_tries:
                given = todo.get()
                stops = functools.partial(leaves, given)
                recorder = trace(escape(replay(wrapped, trace=given), escape_fn=stops))
                try:
                    return recorder(*args, **kwargs)
                except NonlocalExit as exit:
                    tries += 1
                    _cut_back(marks)
                    for longer in extend(recorder.trace.copy(), exit.site, num_samples):
                        todo.put(longer)
            raise HandlerError(
                f"queue: expected a run that comes to its end within max_tries={max_tries}, got none; raise "
                "max_tries"
            )

        return run

    return wrap if fn is None else wrap(fn)


def _records_around() -> list[tuple[Trace, int]]:
    """The traces being recorded further out, and how long they are."""
    return [(entry.trace, len(entry.trace)) for entry in stack.current() if isinstance(entry, trace)]


def _cut_back(marks: list[tuple[Trace, int]]) -> None:
    """Take what a run that ended early has left in them out again."""
    for record, length in marks:
        while len(record) > length:
            record.nodes.popitem()
