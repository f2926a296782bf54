"""Programs written for Pyro, run with their imports changed alone; under ``peers`` the results are Pyro's.

Each file of ``programs`` is one theme; each ``case_*`` function in it is a program whose result is data.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

PROGRAMS = sorted(Path(__file__).with_name("programs").glob("*.py"))
# Programs that compile.
SLOW = {("svi", "case_jit")}
CASES = [
    pytest.param(path.stem, name, marks=[pytest.mark.slow] if (path.stem, name) in SLOW else [])
    for path in PROGRAMS
    for name in re.findall(r"^def (case_\w+)", path.read_text("utf-8"), re.M)
]


def with_changed_imports(source: str) -> str:
    """What a user does to a program: ``import brancher as pyro``, and ``brancher`` for ``pyro`` elsewhere."""
    source = re.sub(r"^import pyro$", "import brancher as pyro", source, flags=re.M)
    return re.sub(r"^(\s*(?:import|from) )pyro\b", r"\1brancher", source, flags=re.M)


@cache
def loaded(theme: str, library: str) -> dict[str, Any]:
    path = Path(__file__).with_name("programs") / f"{theme}.py"
    source = path.read_text("utf-8")
    names: dict[str, Any] = {"__name__": f"{theme}_{library}"}
    exec(compile(source if library == "pyro" else with_changed_imports(source), str(path), "exec"), names)
    return names


def result(theme: str, name: str, library: str) -> Any:
    module = importlib.import_module(library)
    module.clear_param_store()
    module.set_rng_seed(0)
    case: Callable[[], Any] = loaded(theme, library)[name]
    return case()


def leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers, tensors and texts in nested data, with the way to each."""
    if isinstance(data, dict):
        for key in sorted(data):
            yield from leaves(data[key], f"{path}.{key}")
    elif isinstance(data, (list, tuple)) and data:
        for number, each in enumerate(data):
            yield from leaves(each, f"{path}[{number}]")
    else:
        yield path, data


def test_imports_are_changed() -> None:
    source = "import pyro\nimport pyro.distributions as dist\nfrom pyro import poutine\nx = pyro.sample"
    assert with_changed_imports(source).splitlines() == [
        "import brancher as pyro",
        "import brancher.distributions as dist",
        "from brancher import poutine",
        "x = pyro.sample",
    ]


# Programs write float(loss) and float(parameter) as they like.
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
@pytest.mark.parametrize(("theme", "name"), CASES)
def test_program_runs(theme: str, name: str) -> None:
    assert [value for _, value in leaves(result(theme, name, "brancher"))]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar")
@pytest.mark.parametrize(("theme", "name"), CASES)
def test_program_gives_what_pyro_gives(theme: str, name: str) -> None:
    pytest.importorskip("pyro")
    ours = dict(leaves(result(theme, name, "brancher")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dict(leaves(result(theme, name, "pyro")))
    assert list(ours) == list(theirs)
    for path, expected in theirs.items():
        if isinstance(expected, torch.Tensor):
            torch.testing.assert_close(
                torch.as_tensor(ours[path]).detach().to(expected.dtype),
                expected.detach(),
                rtol=1e-4,
                atol=1e-4,
                msg=lambda text, path=path: f"{path}: {text}",
            )
        elif isinstance(expected, float):
            assert ours[path] == pytest.approx(expected, rel=1e-4, abs=1e-4), path
        else:
            assert ours[path] == expected, path
