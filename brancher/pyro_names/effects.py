"""Messages of a type of one's own, under Pyro's names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from brancher.handlers import Frame, Message, Messenger, stack
from brancher.handlers.plate import open_frames

__all__ = ["InferDict", "am_i_wrapped", "apply_stack", "block_messengers", "effectful", "get_plates"]

#: The options of a site for inference.
InferDict: TypeAlias = dict[str, Any]


def am_i_wrapped() -> bool:
    """Whether a handler is in force here."""
    return bool(stack.current())


def apply_stack(message: Message) -> Message:
    """Offer a message to the handlers in force and return it."""
    return stack.apply(message)


def get_plates() -> tuple[Frame, ...]:
    """The frames of the plates that are open here, outermost first."""
    return tuple(open_frames())


@contextmanager
def block_messengers(predicate: Callable[[Messenger], bool]) -> Iterator[list[Messenger]]:
    """Run a block without the handlers that a function picks."""
    picked = [handler for handler in stack.current() if predicate(handler)]
    with stack.without(predicate):
        yield picked


class _Call:
    """A function as the default answer of a message: its own arguments, or those of the message."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], Message):
            message = args[0]
            return self.fn(*message.args, **message.kwargs)
        return self.fn(*args, **kwargs)


def effectful(fn: Callable[..., Any] | None = None, type: str | None = None) -> Callable[..., Any]:
    """Make a function whose calls are messages: under a handler they can be seen and answered.

    Args:
        fn: the function; left out where it decorates.
        type: the type of the messages.

    Example:
        >>> @effectful(type="apply")
        ... def double(x):
        ...     return 2 * x
        >>> class Seen(handlers.Messenger):
        ...     def process_message(self, message):
        ...         print(message.type, message.args)
        >>> with Seen():
        ...     double(3)
        apply (3,)
        6
    """
    if fn is None:
        return functools.partial(effectful, type=type)
    call = _Call(fn)

    @functools.wraps(fn)
    def asked(*args: Any, name: str = "", infer: Any = None, obs: Any = None, **kwargs: Any) -> Any:
        if not am_i_wrapped():
            return fn(*args, **kwargs)
        message = Message(
            type or "",
            name,
            call,
            args,
            kwargs,
            value=obs,
            is_observed=obs is not None,
            infer=dict(infer or {}),
        )
        return stack.apply(message).value

    return asked
