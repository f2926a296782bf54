"""The base of all handlers: one class is wrapper, decorator and context manager."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any

from brancher.errors import HandlerTypeError
from brancher.handlers import stack
from brancher.handlers.message import Message

if TYPE_CHECKING:
    from typing_extensions import Self


#: Types of message for which Pyro's handlers may have a method.
_KINDS = ("sample", "param", "plate", "subsample", "deterministic", "factor")


def _is_method(name: str, post: str) -> bool:
    """Whether Pyro calls a method of this name before a value is there, or with ``post`` afterwards."""
    return name.startswith("_pyro_") and name.startswith("_pyro_post_") == bool(post)


def _refuse_misspelled(handler: str, name: str) -> None:
    """Refuse a method that nothing would ever call; types of one's own are as one names them."""
    kind = name.removeprefix("_pyro_").removeprefix("post_")
    close = difflib.get_close_matches(kind, _KINDS, n=1, cutoff=0.8)
    if close and kind not in _KINDS:
        right = name.removesuffix(kind) + close[0]
        raise HandlerTypeError(
            f"handler '{handler}': expected methods _pyro_<type> and _pyro_post_<type> for the types "
            f"{_KINDS}, got '{name}'; did you mean '{right}'?"
        )


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
        """Let handlers written for Pyro, which have a method for each type of message, be called."""
        super().__init_subclass__(**kwargs)
        own = dict(vars(cls))
        for name in own:
            if name.startswith("_pyro_"):
                _refuse_misspelled(cls.__qualname__, name)
        for post in ("", "post"):
            given = own.get(f"{post}process_message")
            prefix = "_pyro_post_" if post else "_pyro_"
            if given is not None:
                for kind in _KINDS:
                    setattr(cls, prefix + kind, given)
            elif f"_{post}process_message" in own or any(_is_method(name, post) for name in own):
                setattr(cls, f"{post}process_message", _by_type[post])

    def _process_message(self, message: Message) -> None:
        """Call ``_pyro_<type>``, if there is one, as Pyro does."""
        method = getattr(self, f"_pyro_{message.type}", None)
        if method is not None:
            method(message)

    def _postprocess_message(self, message: Message) -> None:
        """Call ``_pyro_post_<type>``, if there is one, as Pyro does."""
        method = getattr(self, f"_pyro_post_{message.type}", None)
        if method is not None:
            method(message)

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


#: What calls the methods of a handler written for Pyro.
_by_type: dict[str, Callable[[Messenger, Message], None]] = {
    "": lambda self, message: self._process_message(message),
    "post": lambda self, message: self._postprocess_message(message),
}
