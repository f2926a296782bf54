"""Whose a piece of code is, the user's own or a library's, and what it names."""

from __future__ import annotations

import dis
import functools
import site
import sys
import sysconfig
from types import CodeType, FunctionType, ModuleType
from typing import Any


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Folders of the standard library and of installed packages."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple({*folders, *site.getsitepackages(), "<frozen"})


def is_users(code: CodeType | None, module: str | None) -> bool:
    """Whether code is the user's own, not that of an installed package, the standard library or this one."""
    if is_ours(module):
        return False
    top = (module or "").partition(".")[0]
    return not code.co_filename.startswith(_libraries()) if code is not None else _is_users_module(top)


def is_ours(module: str | None) -> bool:
    """Whether a module belongs to this package."""
    return (module or "").partition(".")[0] == __name__.partition(".")[0]


@functools.cache
def _is_users_module(top: str) -> bool:
    file = getattr(sys.modules.get(top), "__file__", None)
    return top not in sys.builtin_module_names and not (file or "").startswith(_libraries())


def is_librarys(value: Any) -> bool:
    """Whether a global is a function or class of a library, or a module: nobody rebinds those."""
    if isinstance(value, ModuleType):
        return True
    if isinstance(value, FunctionType):
        return not is_users(value.__code__, value.__module__)
    return isinstance(value, type) and not is_users(None, value.__module__)


@functools.lru_cache(maxsize=4096)
def names_of(code: CodeType) -> tuple[str, ...]:
    """The globals that code names, that of functions defined inside too."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found.update(names_of(inner))
    return tuple(sorted(found))
