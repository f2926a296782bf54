"""What an installed copy must have; runs against a wheel with the hard dependencies alone."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from importlib.resources import files

import brancher


def test_version_is_that_of_the_distribution() -> None:
    assert brancher.__version__ == metadata.version("brancher")


def test_package_says_that_it_is_typed() -> None:
    assert files("brancher").joinpath("py.typed").is_file()


def test_wheel_holds_the_licence() -> None:
    listed = metadata.files("brancher") or []
    in_editable = any("__editable__" in str(path) for path in listed)
    assert in_editable or any(path.name == "LICENSE" for path in listed)


def test_import_loads_nothing_heavy() -> None:
    heavy = ("pandas", "seaborn", "matplotlib", "arviz", "graphviz", "scipy", "torch._inductor")
    script = f"import sys, brancher; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
