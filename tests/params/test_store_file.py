from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import constraints

from brancher.distributions import constraints as own
from brancher.errors import BrancherWarning, FileFormatError, MissingFileError, ParamError
from brancher.params import ParamStore
from brancher.params.constraint_names import build, describe
from brancher.params.entry import same_constraint


class Custom(constraints.Constraint):
    def check(self, value):
        return value > 0


@torch.distributions.transform_to.register(Custom)
def _to_custom(_):
    return torch.distributions.transforms.ExpTransform()


@pytest.fixture
def store() -> ParamStore:
    store = ParamStore()
    store.declare("loc", torch.randn(3))
    store.declare("scale", torch.tensor([0.5, 2.0]), constraints.positive, 1)
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "params.brancher"


def bits(store: ParamStore) -> dict[str, list[float]]:
    return {name: leaf.tolist() for name, leaf in store.unconstrained().items()}


def test_save_then_load_gives_equal_parameters(store, path):
    store.save(path)
    other = ParamStore()
    assert other.load(path) == ([], ["loc", "scale"])
    assert bits(other) == bits(store) and list(other) == list(store)
    assert other.constraint("scale") is constraints.positive and other.event_dim("scale") == 1
    other.declare("scale", torch.tensor([0.5, 2.0]), constraints.positive)


def test_load_keeps_the_leaves_that_fit(store, path):
    store.save(path)
    leaves, before = store.unconstrained(), bits(store)
    store["loc"] = torch.zeros(3)
    assert store.load(path) == ([], [])
    assert bits(store) == before and all(store.leaf(name) is leaf for name, leaf in leaves.items())


def test_loaded_values_are_found_by_declare(store, path):
    store.save(path)
    other = ParamStore()
    other.load(path)
    assert torch.equal(other.declare("loc", torch.zeros(3)), store["loc"])


def test_load_replaces_and_tells(store, path):
    store.save(path)
    other = ParamStore()
    other.declare("loc", torch.zeros(3))
    other.declare("extra", 1.0)
    with pytest.warns(BrancherWarning, match=r"missing \['extra'\], unexpected \['scale'\]"):
        report = other.load(path)
    assert report.missing == ["extra"] and report.unexpected == ["scale"] and list(other) == ["loc", "scale"]


@pytest.mark.parametrize("kept", [0, 20, -1])
def test_truncated_file_changes_nothing_error(store, path, kept):
    store.save(path)
    path.write_bytes(path.read_bytes()[:kept])
    store["loc"] = torch.zeros(3)
    before = bits(store)
    with pytest.raises(FileFormatError, match=re.escape(str(path))):
        store.load(path)
    assert bits(store) == before


def test_missing_file_changes_nothing_error(store, path):
    before = bits(store)
    with pytest.raises(MissingFileError, match=f"{re.escape(str(path))}.*No such file"):
        store.load(path)
    assert bits(store) == before


def test_missing_directory_error(store):
    before = bits(store)
    with pytest.raises(MissingFileError, match="/nonexistent/x.pt"):
        store.save("/nonexistent/x.pt")
    assert bits(store) == before


def test_odd_names_survive(path):
    names = ["a.b", "a/b", "a b", "été", "σ", "🎲", "a'", "__metadata__", "params/a", "\n"]
    store, other = ParamStore(), ParamStore()
    for i, name in enumerate(names):
        store.declare(name, float(i))
    store.save(path)
    other.load(path)
    assert list(other) == names and bits(other) == bits(store)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_survives(path, dtype):
    store, other = ParamStore(), ParamStore()
    store.declare("w", torch.randn(3, dtype=dtype))
    store.save(path)
    other.load(path)
    assert other["w"].dtype == dtype and torch.equal(other["w"], store["w"])


def test_modules_are_saved_with_their_buffers(path):
    source, target = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    source(torch.randn(8, 2))
    first, second = ParamStore(), ParamStore()
    first.register_module("net", source)
    first.save(path)
    second.register_module("net", target)
    weight = target.weight
    assert second.load(path) == ([], [])
    assert target.weight is weight
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_modules_registered_after_loading_get_their_values(path):
    source, target = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    source(torch.randn(8, 2))
    first, second = ParamStore(), ParamStore()
    first.register_module("net", source)
    first.save(path)
    second.load(path)
    second.register_module("net", target)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_module_of_another_shape_changes_nothing_error(path):
    first, second = ParamStore(), ParamStore()
    first.declare("a", 5.0)
    first.register_module("net", nn.Linear(2, 1))
    first.save(path)
    second.declare("a", 1.0)
    second.register_module("net", nn.Linear(3, 1))
    before = bits(second)
    with pytest.raises(ParamError, match=r"'net\.weight'.*\(1, 3\).*\(1, 2\)"):
        second.load(path)
    assert bits(second) == before


def test_values_go_to_the_device_of_the_parameter(path, device):
    store = ParamStore()
    store.declare("w", torch.ones(2).to(device))
    store.save(path)
    store["w"] = torch.zeros(2).to(device)
    store.load(path)
    assert store["w"].device.type == device.type and store["w"].cpu().tolist() == [1.0, 1.0]


def test_map_location_moves_new_parameters(store, path):
    store.save(path)
    other = ParamStore()
    other.load(path, map_location="meta")
    assert other["loc"].device.type == "meta"


def test_custom_constraint_needs_its_declaration(path):
    store, other = ParamStore(), ParamStore()
    store.declare("s", 2.0, Custom())
    store.save(path)
    with pytest.raises(FileFormatError, match="'s'.*Custom.*declare"):
        other.load(path)
    assert len(other) == 0
    other.declare("s", 1.0, Custom())
    other.load(path)
    assert torch.equal(other["s"], store["s"])


TENSOR_BOUND = torch.tensor([0.1, 2.0])
CONSTRAINTS = [
    *(getattr(constraints, name) for name in constraints.__all__),
    *(getattr(own, name) for name in own.__all__),
    constraints.greater_than(2.0),
    constraints.greater_than(TENSOR_BOUND),
    constraints.greater_than_eq(float("-inf")),
    constraints.less_than(-1),
    constraints.interval(0.1, TENSOR_BOUND),
    constraints.half_open_interval(-1.0, 1.0),
    constraints.integer_interval(0, 7),
    constraints.multinomial(5),
    constraints.independent(constraints.interval(-1.0, 3.0), 2),
    constraints.cat([constraints.positive, constraints.interval(0.0, 2.0)], dim=-1, lengths=[1, 2]),
    constraints.stack([constraints.real, constraints.simplex], dim=0),
]
CONSTRAINTS = [
    c for c in CONSTRAINTS if isinstance(c, constraints.Constraint) and not constraints.is_dependent(c)
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
def test_constraint_is_rebuilt_from_its_description(constraint):
    assert same_constraint(build("p", describe(constraint), None), constraint)
