"""Compiled libraries on disk, by the content of their graph: a second process does not compile again."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any


def directory() -> Path | None:
    """Return the folder of compiled graphs, or None where the cache is switched off.

    ``BRANCHER_CACHE_DIR`` names another folder; set to an empty text it switches the cache off. Its files are
    run as code, so a folder that another user owns is never used.
    """
    chosen = os.environ.get("BRANCHER_CACHE_DIR")
    if chosen == "":
        return None
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "brancher"
    path = Path(chosen) if chosen else base
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            return None
        return path if os.access(path, os.W_OK) else None
    except OSError:
        return None


def scratch() -> Path:
    """Return a folder to build in: the cache, or a temporary folder of this process."""
    return directory() or _temporary()


@functools.cache
def _temporary() -> Path:
    folder, owner = Path(tempfile.mkdtemp(prefix="brancher-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # and not a fork
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def digest(*parts: str) -> str:
    """Return a short hash of texts."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode())
        whole.update(b"\0")
    return whole.hexdigest()[:32]


def load(key: str) -> tuple[Path, dict[str, Any]] | None:
    """Return the library and the facts stored under a key; None where there is none, or not all of it."""
    folder = directory()
    if folder is None:
        return None
    library = folder / f"{key}.so"
    try:
        facts = json.loads((folder / f"{key}.json").read_text())
        # Loading a file that was cut short would end the process.
        return (library, facts) if library.stat().st_size == facts.pop("size") else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def store(key: str, folder: Path, facts: dict[str, Any]) -> None:
    """Write the facts of a library that lies in ``folder`` already; they appear whole or not at all."""
    part = folder / f"{key}.{os.getpid()}.tmp"
    size = (folder / f"{key}.so").stat().st_size
    part.write_text(json.dumps({**facts, "size": size}))
    part.replace(folder / f"{key}.json")
