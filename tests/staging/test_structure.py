from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from brancher.staging.reasons import StagingError
from brancher.staging.structure import compile_build, compile_match, constant_key, constants_of, flatten


class Pair(NamedTuple):
    left: object
    right: object


@dataclasses.dataclass
class Batch:
    """Compared by its fields, and without a hash."""

    x: Any
    weight: Any = 1.0


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any
    weight: Any = 1.0


class Settings:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


def _nested() -> tuple[object, ...]:
    a, b, c, d = (torch.tensor(float(i)) for i in range(4))
    return ({"a": a, "n": 3}, [b, None], Pair(c, "s"), OrderedDict(z=d), (), {})


def test_flatten_gives_tensors_in_order() -> None:
    assert [float(t) for t in flatten(_nested())[0]] == [0.0, 1.0, 2.0, 3.0]


def test_build_restores_containers_and_constants() -> None:
    value = _nested()
    tensors, structure = flatten(value)
    again = compile_build(structure, constants_of(value))(tensors)
    assert again == value
    assert [type(part) for part in again] == [type(part) for part in value]


def test_match_takes_the_same_tensors_as_flatten() -> None:
    value = _nested()
    tensors, structure = flatten(value)
    taken = compile_match(structure)(value)
    assert taken is not None
    assert all(x is y for x, y in zip(taken, tensors, strict=True))


@pytest.mark.parametrize(
    ("made_for", "given"),
    [
        ((1,), (1.0,)),
        ((1,), (True,)),
        ((0.0,), (-0.0,)),
        (({"a": 1, "b": 2},), ({"b": 2, "a": 1},)),
        (([1],), ((1,),)),
        (([1, 2],), ([1],)),
        ((torch.zeros(1),), (1,)),
        (({},), ({"a": 1},)),
    ],
)
def test_match_refuses_another_structure(made_for: tuple[object], given: tuple[object]) -> None:
    assert compile_match(flatten(made_for)[1])(given) is None


def test_nan_matches_itself() -> None:
    assert compile_match(flatten((float("nan"),))[1])((float("nan"),)) == []


def test_module_key_changes_with_train_and_eval() -> None:
    module = torch.nn.Sequential(torch.nn.Dropout(0.5))
    before = constant_key(module)
    module[0].eval()
    assert constant_key(module) != before


def test_unhashable_argument_error() -> None:
    with pytest.raises(
        StagingError, match=r"argument\[0\]\['x'\]: expected a tensor, .* got set; convert it"
    ):
        flatten(({"x": {1}},))


ALIKE_AND_OTHER = [
    (np.arange(3), np.arange(3.0)),
    (np.array(["a", None], dtype=object), np.array(["a", 1], dtype=object)),
    (pd.Index(["a", "b"], name="x"), pd.Index(["a", "c"], name="x")),
    (pd.Index([1, 2], name="x"), pd.Index([1, 2], name="y")),
    (pd.MultiIndex.from_tuples([(1, "b")]), pd.MultiIndex.from_tuples([(1, "c")])),
    (pd.date_range("2020-01-01", periods=3), pd.date_range("2020-01-02", periods=3)),
    (pd.Series([1.0, 2.0], index=[3, 4]), pd.Series([1.0, 2.0], index=[3, 5])),
    (pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}), pd.DataFrame({"x": [1, 2], "y": ["a", "c"]})),
]


@pytest.mark.parametrize(("value", "other"), ALIKE_AND_OTHER, ids=lambda v: type(v).__name__)
def test_arrays_and_tables_go_by_their_contents(value: Any, other: Any) -> None:
    again = copy.deepcopy(value)
    assert constant_key(value) == constant_key(again)
    assert hash(constant_key(value)) == hash(constant_key(again))
    assert constant_key(value) != constant_key(other)


def test_array_changed_in_place_is_another_key() -> None:
    array = np.zeros(3)
    match = compile_match(flatten((array, torch.zeros(2)))[1])
    assert match((array, torch.ones(2))) is not None
    array[1] = 1.0
    assert match((array, torch.ones(2))) is None


@pytest.mark.parametrize("kind", [Batch, Frozen])
def test_dataclass_with_tensors_is_a_container(kind: Any) -> None:
    value = kind({"a": torch.ones(2), "b": "text"}, torch.zeros(3))
    tensors, structure = flatten(value)
    assert [t.shape for t in tensors] == [(2,), (3,)]
    match, build = compile_match(structure), compile_build(structure, constants_of(value))
    other = kind({"a": torch.zeros(2), "b": "text"}, torch.ones(3))
    taken = match(other)
    assert taken is not None and taken[0] is other.x["a"] and taken[1] is other.weight
    again = build(taken)
    assert type(again) is kind and again.x["a"] is other.x["a"] and again.x["b"] == "text"
    for odd in (kind({"a": torch.ones(2), "b": "other"}, torch.ones(3)), kind(torch.ones(2), torch.ones(3))):
        assert match(odd) is None
    assert match(Frozen(value.x, value.weight) if kind is Batch else Batch(value.x, value.weight)) is None


def test_dataclass_without_tensors_goes_by_value() -> None:
    match = compile_match(flatten((Batch(1, 2.0), Frozen(1, 2.0)))[1])
    assert match((Batch(1, 2.0), Frozen(1, 2.0))) == []
    assert match((Batch(1, 3.0), Frozen(1, 2.0))) is None
    assert match((Batch(1, 2.0), Frozen(2, 2.0))) is None


_DATA = torch.ones(2)


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: setattr(settings, "rate", 2.0),
        lambda settings: setattr(settings, "extra", None),
        lambda settings: settings.sizes.append(4),
        lambda settings: setattr(settings.inner, "name", "other"),
        lambda settings: settings.table.update(a=2),
        lambda settings: setattr(settings.inner, "data", _DATA.clone()),
    ],
)
def test_attributes_of_an_object_are_part_of_the_key(change: Any) -> None:
    inner = Settings(name="inner", data=_DATA)
    settings = Settings(rate=1.0, sizes=[1, 2], table={"a": 1}, inner=inner)
    inner.outer = settings
    match = compile_match(flatten((settings,))[1])
    _DATA.add_(1.0)  # the same tensor
    assert match((settings,)) == []
    change(settings)
    assert match((settings,)) is None
