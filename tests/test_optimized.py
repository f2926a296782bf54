"""Every error is still an error under ``python -O``, which drops assertions."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import brancher

ROOT = Path(__file__).parent
PACKAGE = Path(brancher.__file__).parent
FOLDERS = ["handlers", "primitives", "params", "optim", "infer/elbo", "infer/test_svi.py", "infer/autoguide"]


def test_package_checks_nothing_by_assert():
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert not found


def run_optimized(*arguments: str) -> None:
    command = [sys.executable, "-O", "-m", "pytest", "-q", "-W", "ignore::pytest.PytestConfigWarning"]
    command += ["-p", "no:cacheprovider", "--rootdir", str(ROOT.parent), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT.parent, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_faults_of_names_do_not_depend_on_assertions():
    # These tests call pytest.fail where others assert, so all of them counts.
    run_optimized(str(ROOT / "faults" / "test_names.py"), "-k", "[trace")


@pytest.mark.slow
def test_faults_do_not_depend_on_assertions():
    run_optimized(str(ROOT / "faults"))


@pytest.mark.slow
def test_errors_and_warnings_do_not_depend_on_assertions():
    # pytest.raises and pytest.warns still check under -O; the asserts of those tests do not.
    present = [str(ROOT / folder) for folder in FOLDERS if (ROOT / folder).exists()]
    run_optimized("-k", "error or warns", *present)
