"""What functions read from around them, and whether a change of it is seen."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from brancher.handlers import condition
from brancher.staging import Surroundings

LEVEL: Any = 1.0
SETTINGS: dict[str, Any] = {"loc": 0.0, "inner": {"scale": 1.0}, "sizes": [1, 2]}


@dataclass
class Options:
    width: float = 1.0


class Model:
    shared = 1.0

    def __init__(self) -> None:
        self.own = 1.0
        self.options = Options()
        self._hidden = 1.0

    def _part(self) -> Any:
        return LEVEL

    def __call__(self) -> Any:
        return self.own + self.shared + self._hidden + self._part()

    def method(self) -> Any:
        return self()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.drop = nn.Dropout(0.5)
        self.gain = 1.0
        self.register_buffer("table", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * self.drop(self.layer(x)) + self.table


def helper() -> Any:
    return LEVEL


def names_global() -> Any:
    return LEVEL


def names_helper() -> Any:
    return helper()


def names_inside() -> Any:
    return [LEVEL for _ in range(2)], (lambda: LEVEL)


def names_settings() -> Any:
    return SETTINGS["loc"]


def put(name: str, value: Any) -> Callable[[], None]:
    return lambda: globals().__setitem__(name, value)


@pytest.fixture(autouse=True)
def put_back() -> Any:
    before, shared = dict(globals()), Model.shared
    loc = dict(SETTINGS)
    yield
    globals().update(before)
    Model.shared = shared
    SETTINGS.clear()
    SETTINGS.update(loc, inner={"scale": 1.0}, sizes=[1, 2])


def _model_cases() -> dict[str, tuple[Any, Callable[[], Any]]]:
    model, net, held = Model(), Net(), SimpleNamespace(inside=1.0)
    cell = 1.0

    def closed() -> Any:
        return cell

    def rebind() -> None:
        nonlocal cell
        cell = 2.0

    return {
        "global": (names_global, put("LEVEL", 2.0)),
        "global of another type": (names_global, put("LEVEL", 1)),
        "global tensor": (names_global, put("LEVEL", torch.ones(()))),
        "global of a helper": (names_helper, put("LEVEL", 2.0)),
        "helper itself": (names_helper, put("helper", lambda: 3.0)),
        "global inside a lambda": (names_inside, put("LEVEL", 2.0)),
        "closure": (closed, rebind),
        "partial": (functools.partial(names_global), put("LEVEL", 2.0)),
        "wrapped": (functools.lru_cache(names_global), put("LEVEL", 2.0)),
        "handler": (condition(names_global, {}), put("LEVEL", 2.0)),
        "default": (lambda f=names_global: f(), put("LEVEL", 2.0)),
        "entry": (names_settings, lambda: SETTINGS.update(loc=1.0)),
        "new entry": (names_settings, lambda: SETTINGS.update(scale=1.0)),
        "entry of an entry": (names_settings, lambda: SETTINGS["inner"].update(scale=2.0)),
        "list": (names_settings, lambda: SETTINGS["sizes"].append(3)),
        "attribute": (model, lambda: setattr(model, "own", 2.0)),
        "private attribute": (model.method, lambda: setattr(model, "_hidden", 2.0)),
        "attribute of an attribute": (model, lambda: setattr(model.options, "width", 2.0)),
        "class": (model, lambda: setattr(Model, "shared", 2.0)),
        "global of a method": (model.method, put("LEVEL", 2.0)),
        "module": (net, lambda: setattr(net, "gain", 2.0)),
        "module of a library": (net, lambda: setattr(net.drop, "p", 0.1)),
        "mode of a part": (net, lambda: net.drop.eval()),
        "layer": (net, lambda: setattr(net, "layer", nn.Linear(2, 2))),
        "parameter": (net, lambda: setattr(net.layer, "weight", nn.Parameter(torch.ones(2, 2)))),
        "buffer": (net, lambda: setattr(net, "table", torch.ones(2))),
        "closure of a wrapper": (closing_over(closed), rebind),
        "simple namespace": (lambda: held.inside, lambda: setattr(held, "inside", 2.0)),
    }


def closing_over(fn: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(fn)
    def wrapper() -> Any:
        return fn()

    return wrapper


@pytest.mark.parametrize("case", list(_model_cases()))
def test_a_change_is_seen(case: str) -> None:
    fn, change = _model_cases()[case]
    around = Surroundings([fn])
    before = around.state()
    assert around.state() == before
    change()
    after = around.state()
    assert after != before
    assert around.state() == after


def test_equal_numbers_are_no_change_and_old_values_have_their_old_number() -> None:
    around = Surroundings([names_global])
    first = around.state()
    put("LEVEL", float("1.0"))()
    assert around.state() == first
    put("LEVEL", 2.0)()
    second = around.state()
    assert (second != first, around.changed) == (True, "LEVEL")
    put("LEVEL", 1.0)()
    assert around.state() == first


def test_a_new_helper_is_looked_into() -> None:
    around = Surroundings([names_helper])
    states = [around.state()]
    put("helper", names_settings)()
    states.append(around.state())
    SETTINGS["loc"] = 5.0
    states.append(around.state())
    put("LEVEL", 7.0)()  # no longer named
    assert around.state() == states[-1]
    assert len(set(states)) == 3


def test_what_functions_change_themselves_is_let_be() -> None:
    calls: list[int] = []
    count, other = 0, 1.0

    def counting() -> Any:
        nonlocal count
        count += 1
        calls.append(count)
        return other

    around = Surroundings([counting])
    before = around.state()
    counting()
    around.settle()
    assert around.state() == before
    counting()
    assert around.state() == before
    other = 2.0
    assert around.state() != before


def test_a_tensor_changed_in_place_is_the_same() -> None:
    data = torch.zeros(3)
    around = Surroundings([lambda: data])
    before = around.state()
    data += 1.0
    assert around.state() == before


def test_names_of_attributes_are_not_globals() -> None:
    held = SimpleNamespace(LEVEL=0.0)
    around = Surroundings([lambda: held.LEVEL])
    before = around.state()
    put("LEVEL", 5.0)()
    assert around.state() == before


def test_modules_of_libraries_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    around = Surroundings([lambda: (torch.pi, sys.maxsize)])
    before = around.state()
    monkeypatch.setattr(torch, "pi", 3.0)
    assert around.state() == before


def test_a_module_of_the_users_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings_of_mine.py").write_text("scale = 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import settings_of_mine as mine  # type: ignore[import-not-found]

    space = {"mine": mine}
    exec("def fn():\n    return mine.scale", space)
    around = Surroundings([space["fn"]])
    before = around.state()
    mine.scale = 2.0
    assert (around.state() != before, around.changed) == (True, "mine.scale")


def test_a_variable_that_is_deleted_and_put_back() -> None:
    value = 1.0

    def fn() -> Any:
        return value

    around = Surroundings([fn])
    before = around.state()
    del value
    assert around.state() != before
    value = 1.0
    assert around.state() == before


def test_a_long_chain_of_objects_is_followed_as_far_as_it_is_settings() -> None:
    first = last = Model()
    for _ in range(20_000):
        last.own = Model()
        last = last.own
    around = Surroundings([first])
    before = around.state()
    last.own = 3.0
    assert around.state() == before
    first._hidden = 3.0
    assert around.state() != before
