"""Global settings under Pyro's names: validation, and where parameters of modules live: always in them."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from brancher.distributions.validation import enable_validation, is_validating
from brancher.errors import HandlerTypeError, UnknownNameError, nearest

__all__ = ["context", "get", "register", "set"]

_VALIDATION = (
    "validate_distributions_pyro",
    "validate_distributions_torch",
    "validate_infer",
    "validate_poutine",
)
#: Modules keep their own parameters here, and the store shows them, whatever this says.
_LOCAL = "module_local_params"
_local_params = {_LOCAL: False}
_OWN = (_LOCAL, *_VALIDATION)


class _Registered(NamedTuple):
    """A program's own setting: where its value is, and what checks new ones."""

    module: str
    path: str
    check: Callable[[Any], Any] | None

    def place(self) -> tuple[Any, str]:
        """The object that holds the value, and the attribute's name."""
        *way, last = self.path.split(".")
        return functools.reduce(getattr, way, importlib.import_module(self.module)), last


_registered: dict[str, _Registered] = {}


def register(
    alias: str, modulename: str, deepname: str, validator: Callable[[Any], Any] | None = None
) -> Callable[..., Any]:
    """Make an attribute of a module a setting; with a function for new values, or as its decorator.

    Args:
        alias: the setting's name.
        modulename: the module.
        deepname: the attribute, with dots where it is one of an attribute.
        validator: called with each new value; raises where it refuses one.

    Raises:
        HandlerTypeError: the setting is there already, at another place.

    Example:
        >>> from brancher import settings
        >>> @settings.register("turn", "math", "tau")
        ... def check(value):
        ...     assert value > 0
        >>> settings.get("turn") > 6
        True
    """
    before = _registered.get(alias)
    if alias in _OWN or (before is not None and (before.module, before.path) != (modulename, deepname)):
        raise HandlerTypeError(
            f"settings: expected a new name, got '{alias}', which is there; choose another"
        )
    _registered[alias] = _Registered(modulename, deepname, validator)
    if validator is not None:
        return validator

    def decorate(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
        _registered[alias] = _Registered(modulename, deepname, check)
        return check

    return decorate


def get(alias: str | None = None) -> Any:
    """One setting, or all of them by name.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if alias is None:
        return {name: get(name) for name in (*_OWN, *_registered)}
    _check(alias)
    if alias in _registered:
        return getattr(*_registered[alias].place())
    return _local_params[_LOCAL] if alias == _LOCAL else is_validating()


def set(**settings: Any) -> None:
    """Change settings; those of validation are one and the same.

    Raises:
        UnknownNameError: there is none of that name.
        HandlerTypeError: a value is neither True nor False.
    """
    for name, value in settings.items():
        _check(name)
        if name in _OWN and not isinstance(value, bool):
            raise HandlerTypeError(f"settings '{name}': expected True or False, got {value!r}")
        if name in _registered and _registered[name].check is not None:
            _registered[name].check(value)  # type: ignore[misc]
    for name, value in settings.items():
        if name in _registered:
            setattr(*_registered[name].place(), value)
        elif name == _LOCAL:
            _local_params[_LOCAL] = value
        else:
            enable_validation(value)


@contextmanager
def context(**settings: Any) -> Iterator[None]:
    """Change settings inside a block or a decorated function."""
    before = {name: get(name) for name in settings}
    set(**settings)
    try:
        yield
    finally:
        set(**before)


def _check(name: str) -> None:
    known = (*_OWN, *_registered)
    if name not in known:
        raise UnknownNameError(
            f"settings: expected one of {list(known)}, got '{name}'{nearest(name, known)}; give other "
            "options to what they are for"
        )
