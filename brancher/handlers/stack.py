"""The handler stack: one immutable tuple per thread or task, and the way a message takes through it.

The stack lives in a ContextVar, so threads and asyncio tasks never see each other's handlers.
Whatever restores it sets the whole tuple again: no exception or interrupt can leave half a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch

from brancher.distributions.validation import enable_validation, is_validating
from brancher.handlers.message import Message
from brancher.params import journal

if TYPE_CHECKING:
    from brancher.handlers.messenger import Messenger

_STACK: ContextVar[tuple[Messenger, ...]] = ContextVar("brancher_handlers", default=())


def current() -> tuple[Messenger, ...]:
    """The handlers in force here, outermost first."""
    return _STACK.get()


def push(handler: Messenger) -> None:
    """Make ``handler`` the innermost one."""
    _STACK.set((*_STACK.get(), handler))


def pop(handler: Messenger) -> Messenger | None:
    """Remove the innermost entry made by ``handler`` and return it; None where there is none.

    Only that entry goes: a generator that is closed late must not take others' handlers along.
    """
    stack = _STACK.get()
    for i in range(len(stack) - 1, -1, -1):
        if stack[i] is handler or stack[i].origin is handler:
            _STACK.set(stack[:i] + stack[i + 1 :])
            return stack[i]
    return None


class restored(ContextDecorator):  # noqa: N801 - a context manager, called like a function
    """Leave the stack as it was found, whatever happens inside.

    After an exception, validation, gradient mode and the list of declarations as well: an
    interrupt may have kept a block inside from putting them back.
    """

    __slots__ = ("_before", "_grad", "_noted", "_validating")

    def __enter__(self) -> None:
        self._before, self._validating = _STACK.get(), is_validating()
        self._grad, self._noted = torch.is_grad_enabled(), journal.open_list()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _STACK.set(self._before)
        if kind is not None:
            enable_validation(self._validating)
            torch.set_grad_enabled(self._grad)
            journal.note_in(self._noted)

    def _recreate_cm(self) -> restored:
        return restored()  # a function that is decorated may be running more than once


@contextmanager
def outside(handler: Messenger) -> Iterator[None]:
    """Run a block under the handlers further out than ``handler`` alone."""
    before = _STACK.get()
    depth = next((i for i, entry in enumerate(before) if entry is handler), len(before))
    try:
        _STACK.set(before[:depth])
        yield
    finally:
        _STACK.set(before)


@contextmanager
def without(is_out: Callable[[Messenger], bool]) -> Iterator[None]:
    """Run a block without the handlers that a function picks."""
    before = _STACK.get()
    try:
        _STACK.set(tuple(entry for entry in before if not is_out(entry)))
        yield
    finally:
        _STACK.set(before)


@contextmanager
def emptied() -> Iterator[None]:
    """Run a block under no handler at all."""
    before = _STACK.get()
    try:
        _STACK.set(())
        yield
    finally:
        _STACK.set(before)


def apply(message: Message) -> Message:
    """Offer a message to the handlers, innermost first, fill in the default, and tell them again.

    A handler that sets ``message.stop`` hides it from those further out. On the way back the
    outermost handler that saw the message is told first.
    """
    stack = _STACK.get()
    reached = len(stack)
    for handler in reversed(stack):
        reached -= 1
        handler.process_message(message)
        if message.stop:
            break
    if message.value is None and not message.done:
        message.value = default(message)
    message.done = True
    for handler in stack[reached:]:
        handler.postprocess_message(message)
    if message.continuation is not None:
        message.continuation(message)
    return message


def default(message: Message) -> Any:
    """Answer a message that no handler answered: draw, or ask the primitive."""
    if message.type == "sample":
        fn = message.fn
        shape = message.args[0] if message.args else ()
        return fn.rsample(shape) if fn.has_rsample else fn.sample(shape)
    return message.fn(message)
