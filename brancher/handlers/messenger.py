"""The base of all handlers: one class is wrapper, decorator and context manager."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any

from brancher.errors import HandlerTypeError
from brancher.handlers import stack
from brancher.handlers.message import Message

if TYPE_CHECKING:
    from typing_extensions import Self


class Messenger:
    """A handler: sees every message issued inside it, before and after it is answered.

    Subclasses override :meth:`process_message` (on the way out, before a value is there) and
    :meth:`postprocess_message` (on the way back). Three uses, all equal::

        handler(model, ...)(x)              # wrapper
        with handler(...): model(x)         # context manager
        @handler(...)                       # decorator
        def model(x): ...

    Args:
        fn: the function to run inside the handler; None for the other two uses.
    """

    #: The handler a user made, where the entry on the stack is a fresh copy of it.
    origin: Messenger | None = None

    def __init__(self, fn: Callable[..., Any] | None = None) -> None:
        if fn is not None and not callable(fn):
            raise HandlerTypeError(
                f"{type(self).__name__}: expected a function as first argument, got "
                f"{type(fn).__name__}; give the other arguments by keyword"
            )
        self.fn = fn

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse the methods of handlers written for Pyro, which would never be called."""
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("_pyro_") or name in ("_process_message", "_postprocess_message"):
                post = "post" in name
                raise HandlerTypeError(
                    f"handler '{cls.__name__}': expected the methods process_message and "
                    f"postprocess_message, got '{name}' of Pyro; write def {'post' if post else ''}"
                    f"process_message(self, message), and look at message.type"
                )

    def process_message(self, message: Message) -> None:
        """Look at a message on its way out; may set its value, scale, mask or stop it."""

    def postprocess_message(self, message: Message) -> None:
        """Look at a message on its way back, when its value is there."""

    def fresh(self) -> Self:
        """What is put on the stack: the handler, or a copy of it with state of its own."""
        return self

    def leave(self, completed: bool) -> None:
        """Called on what :meth:`fresh` gave when its block ends; ``completed`` without an exception."""

    def __enter__(self) -> Self:
        entry = self.fresh()
        stack.push(entry)
        return entry

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        entry = stack.pop(self)
        if entry is not None:
            entry.leave(kind is None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fn is None:
            return self._bind(*args, **kwargs)
        with stack.restored(), self:
            return self.fn(*args, **kwargs)

    def _bind(self, *args: Any, **kwargs: Any) -> Self:
        if len(args) != 1 or kwargs or not callable(args[0]):
            raise HandlerTypeError(
                f"{type(self).__name__}: expected one function to wrap, got {len(args)} positional "
                f"and {len(kwargs)} keyword arguments; write {type(self).__name__}(fn, ...)(*args)"
            )
        bound = copy.copy(self)
        bound.fn = args[0]
        return bound

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # A decorated method receives its object like any function.
        return self if instance is None else MethodType(self, instance)

    @property
    def __name__(self) -> str:
        name: str = getattr(self.fn, "__name__", "")
        return name or type(self).__qualname__

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        if self.fn is None:
            raise AttributeError("__wrapped__")
        return self.fn
