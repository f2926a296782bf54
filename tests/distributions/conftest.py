"""The contract registry: what an entry says, and how every contract test meets every entry."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brancher.distributions.validation import validation_enabled

REGISTRIES = ("registry.py", "registry_own.py")
# Contracts about machinery rather than numbers: in a quick run, one set of arguments a family is enough.
ONCE = {
    "trace",
    "device",
    "pickle",
    "float32",
    "seed",
    "sample",
    "support",
    "outside",
    "independent",
    "staging",
}


@dataclass(frozen=True)
class Case:
    """One family with several sets of arguments.

    Args:
        family: the class under test.
        args: keyword arguments; lists and floats become tensors of the dtype under test, other
            objects (ints, None, distributions) are passed as they are.
        scipy: the same arguments as numpy arrays -> frozen scipy distribution (None: no counterpart).
        build: the tensors -> the distribution; the family's own constructor when None.
        bad: argument -> a value outside its constraint.
        outside: a value outside the support (nested list or number), None if there is none.
        skip: contract name -> the reason why it can not hold. The names are those in the tests' marks
            ``@pytest.mark.contract(name)``.
    """

    family: type
    args: tuple[dict[str, Any], ...]
    scipy: Callable[..., Any] | None = None
    build: Callable[..., Any] | None = None
    bad: dict[str, Any] = field(default_factory=dict)
    outside: Any = None
    skip: dict[str, str] = field(default_factory=dict)


def case(family: type, *args: dict[str, Any], **options: Any) -> Case:
    """One line of a registry."""
    return Case(family, args, **options)


@dataclass(frozen=True)
class Member:
    """One family with one set of arguments."""

    case: Case
    index: int

    @property
    def family(self) -> type:
        return self.case.family

    def tensors(self, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
        return {name: as_tensor(value, dtype) for name, value in self.case.args[self.index].items()}

    def make(self, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
        build = self.case.build or self.family
        return build(**{**self.tensors(dtype), **changes})

    def scipy(self) -> Any:
        assert self.case.scipy is not None
        arrays = {
            name: np.asarray(value) if isinstance(value, (list, float)) else value
            for name, value in self.case.args[self.index].items()
        }
        return self.case.scipy(**arrays)


def as_tensor(value: Any, dtype: torch.dtype) -> Any:
    """Lists and floats as tensors; everything else as it is."""
    return torch.tensor(value, dtype=dtype) if isinstance(value, (list, float)) else value


def _load() -> list[Member]:
    members: list[Member] = []
    for name in REGISTRIES:
        path = Path(__file__).parent / name
        if not path.exists():
            continue
        spec = importlib.util.spec_from_file_location(f"distribution_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        members += [Member(c, i) for c in module.cases(case) for i in range(len(c.args))]
    return members


def pytest_configure(config: pytest.Config) -> None:
    text = (
        "contract(name, only=None): run for the registered families that do not skip the name and pass only"
    )
    config.addinivalue_line("markers", text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument ``member`` runs for every family and argument set.

    Mark it ``@pytest.mark.contract("name")`` to honour the entries' ``skip``, with ``only=`` for a question
    that an entry must answer by yes.
    """
    if "member" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("contract")
        name = marker.args[0] if marker else ""
        only = marker.kwargs.get("only", bool) if marker else bool
        chosen = [m for m in MEMBERS if name not in m.case.skip and only(m)]
        metafunc.parametrize("member", [_param(m, name) for m in chosen])


def _param(member: Member, name: str) -> Any:
    marks = [pytest.mark.slow] if member.index and name in ONCE else []
    return pytest.param(member, id=f"{member.family.__name__}-{member.index}", marks=marks)


@pytest.fixture
def unvalidated() -> Iterator[None]:
    with validation_enabled(False):
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(20240229)


MEMBERS = _load()
