"""Global settings under Pyro's names: validation, and where parameters of modules live: always in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from brancher.distributions.validation import enable_validation, is_validating
from brancher.errors import HandlerTypeError, UnknownNameError, nearest

__all__ = ["context", "get", "set"]

_VALIDATION = (
    "validate_distributions_pyro",
    "validate_distributions_torch",
    "validate_infer",
    "validate_poutine",
)
#: Modules keep their own parameters here, and the store shows them, whatever this says.
_LOCAL = "module_local_params"
_local_params = {_LOCAL: False}


def get(alias: str | None = None) -> Any:
    """One setting, or all of them by name.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if alias is None:
        return {name: get(name) for name in (_LOCAL, *_VALIDATION)}
    _check(alias)
    return _local_params[_LOCAL] if alias == _LOCAL else is_validating()


def set(**settings: bool) -> None:
    """Change settings; those of validation are one and the same.

    Raises:
        UnknownNameError: there is none of that name.
        HandlerTypeError: a value is neither True nor False.
    """
    for name, value in settings.items():
        _check(name)
        if not isinstance(value, bool):
            raise HandlerTypeError(f"settings '{name}': expected True or False, got {value!r}")
    for name, value in settings.items():
        if name == _LOCAL:
            _local_params[_LOCAL] = value
        else:
            enable_validation(value)


@contextmanager
def context(**settings: bool) -> Iterator[None]:
    """Change settings inside a block or a decorated function."""
    before = {name: get(name) for name in settings}
    set(**settings)
    try:
        yield
    finally:
        set(**before)


def _check(name: str) -> None:
    known = (_LOCAL, *_VALIDATION)
    if name not in known:
        raise UnknownNameError(
            f"settings: expected one of {list(known)}, got '{name}'{nearest(name, known)}; give other "
            "options to what they are for"
        )
