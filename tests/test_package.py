"""What an installed copy must have; runs against a wheel with the hard dependencies alone."""

from __future__ import annotations

import importlib
import pkgutil
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
    listed = [str(path) for path in metadata.files("brancher") or []]
    is_editable = any("__editable__" in path for path in listed)
    assert is_editable or any(path.endswith("LICENSE") for path in listed)


def test_every_module_is_packed_and_needs_no_extra() -> None:
    names = [module.name for module in pkgutil.walk_packages(brancher.__path__, "brancher.")]
    assert "brancher.distributions.base" in names
    for name in names:
        importlib.import_module(name)


def test_import_loads_nothing_heavy() -> None:
    heavy = ("pandas", "seaborn", "matplotlib", "arviz", "graphviz", "scipy", "torch._inductor")
    script = f"import sys, brancher; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
