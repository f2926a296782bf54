from __future__ import annotations

import json
import os
import pickle
import re
import stat
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import torch as safetensors_torch

from brancher.errors import FileFormatError, MissingFileError, ParamError
from brancher.params import flatten_state, load_state, load_tensors, save_state, save_tensors, unflatten_state

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
]
ODD_NAMES = [
    "",
    " ",
    "a b",
    "a/b",
    "a.b",
    "../x",
    "été",
    "σ²",
    "中文",
    "🎲",
    "a\nb",
    'q"q',
    "\\",
    "a'",
    "__metadata__",
    "__metadata___",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "saved.brancher"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)], ids=str)
def test_every_dtype_and_shape_survives(path, dtype, shape):
    tensor = (torch.randn(shape) * 50).abs().to(dtype)
    save_tensors(path, {"t": tensor})
    loaded = load_tensors(path)[0]["t"]
    assert loaded.dtype == dtype and loaded.shape == tensor.shape and torch.equal(loaded, tensor)


def test_values_that_are_not_finite_survive(path):
    tensor = torch.tensor([float("nan"), float("inf"), -0.0])
    save_tensors(path, {"t": tensor})
    assert load_tensors(path)[0]["t"].view(torch.int32).tolist() == tensor.view(torch.int32).tolist()


def test_strided_views_are_saved_by_value(path):
    base = torch.arange(12.0).reshape(3, 4)
    views = {
        "t": base.T,
        "step": base[:, ::2],
        "wide": torch.ones(()).expand(2, 2),
        "neg": torch.imag(torch.ones(2, dtype=torch.complex64).conj()),
    }
    save_tensors(path, views)
    loaded, _ = load_tensors(path)
    assert all(torch.equal(loaded[name], view) for name, view in views.items())


def test_tensors_of_another_device_are_saved(path, device):
    save_tensors(path, {"t": torch.arange(3.0).to(device)})
    assert load_tensors(path)[0]["t"].tolist() == [0.0, 1.0, 2.0]


def test_loaded_tensors_can_be_written(path):
    save_tensors(path, {"a": torch.zeros(2, dtype=torch.uint8), "b": torch.zeros(2)})
    loaded, _ = load_tensors(path)
    loaded["b"] += 1
    assert loaded["b"].tolist() == [1.0, 1.0]


def test_odd_names_survive(path):
    tensors = {name: torch.tensor(float(i)) for i, name in enumerate(ODD_NAMES)}
    save_tensors(path, tensors)
    loaded, _ = load_tensors(path)
    assert list(loaded) == ODD_NAMES and [value.item() for value in loaded.values()] == list(
        range(len(ODD_NAMES))
    )


def test_meta_survives(path):
    meta = {"steps": 3, "names": ["a", None], "x": 0.1}
    save_tensors(path, {}, meta)
    assert load_tensors(path) == ({}, meta)


def test_file_is_readable_as_safetensors(path):
    save_tensors(path, {"a": torch.randn(3), "b": torch.tensor([True])}, {"steps": 1})
    loaded = safetensors_torch.load_file(path)
    assert loaded.keys() == {"a", "b"} and torch.equal(loaded["a"], load_tensors(path)[0]["a"])


@pytest.mark.parametrize("kept", [0, 3, 8, 50, -1])
def test_truncated_file_error(path, kept):
    save_tensors(path, {"t": torch.randn(30)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileFormatError, match=re.escape(str(path))) as caught:
        load_tensors(path)
    assert isinstance(caught.value, RuntimeError) and isinstance(caught.value, ValueError)


def test_every_damaged_byte_error(path):
    save_tensors(path, {"t": torch.randn(3), "u": torch.ones(2)}, {"a": 1})
    whole = path.read_bytes()
    for position in range(len(whole)):
        if whole[position : position + 1] == b" ":
            continue  # blanks between JSON's words mean nothing
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(FileFormatError, match=re.escape(str(path))):
            load_tensors(path)


class Bomb:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        pickle.dumps(Bomb()),
        b"\x02\x00\x00\x00\x00\x00\x00\x00{}",
        b"\x02\x00\x00\x00\x00\x00\x00\x00[]",
        b"\xff" * 40,
        b"\x09\x00\x00\x00\x00\x00\x00\x00" + b"[" * 9,
    ],
)
def test_foreign_file_error(path, content):
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=re.escape(str(path))):
        load_tensors(path)


def test_torch_file_error(path):
    torch.save({"a": Bomb()}, path)
    with pytest.raises(FileFormatError, match=re.escape(str(path))):
        load_tensors(path)


def test_safetensors_file_of_others_error(path):
    safetensors_torch.save_file({"a": torch.ones(2)}, path)
    with pytest.raises(FileFormatError, match=re.escape(str(path))):
        load_tensors(path)


def test_missing_file_error(path):
    with pytest.raises(MissingFileError, match=f"{re.escape(str(path))}.*No such file") as caught:
        load_tensors(path)
    assert isinstance(caught.value, FileNotFoundError)


def test_missing_directory_error():
    with pytest.raises(MissingFileError, match="'/nonexistent/x.pt'.*No such file"):
        save_tensors("/nonexistent/x.pt", {})


def test_directory_as_file_error(tmp_path):
    with pytest.raises(FileFormatError, match=re.escape(str(tmp_path))):
        load_tensors(tmp_path)
    with pytest.raises(FileFormatError, match=re.escape(str(tmp_path))):
        save_tensors(tmp_path, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tensor", [torch.ones(2).to_sparse(), torch.ones(2, device="meta")])
def test_tensor_without_plain_data_error(path, tensor):
    with pytest.raises(ParamError, match="'t'"):
        save_tensors(path, {"t": tensor})
    assert not path.exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_save_keeps_the_former_file(path, monkeypatch, call):
    save_tensors(path, {"t": torch.ones(2)})

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail) if call == "fsync" else monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(FileFormatError, match=f"{re.escape(str(path))}.*No space left"):
        save_tensors(path, {"t": torch.zeros(2)})
    assert load_tensors(path)[0]["t"].tolist() == [1.0, 1.0] and list(path.parent.iterdir()) == [path]


def test_interrupted_save_keeps_the_former_file(path, monkeypatch):
    save_tensors(path, {"t": torch.ones(2)})

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, {"t": torch.zeros(2)})
    assert load_tensors(path)[0]["t"].tolist() == [1.0, 1.0] and list(path.parent.iterdir()) == [path]


def test_save_through_a_link_keeps_the_link(path, tmp_path):
    link = tmp_path / "link"
    save_tensors(path, {"t": torch.ones(1)})
    link.symlink_to(path)
    save_tensors(link, {"t": torch.zeros(1)})
    assert link.is_symlink() and load_tensors(path)[0]["t"].tolist() == [0.0]


def test_file_has_the_usual_permissions(path):
    beside = path.with_name("beside")
    beside.write_bytes(b"")
    save_tensors(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(beside.stat().st_mode)


def test_text_paths_are_accepted(path):
    save_tensors(str(path), {"t": torch.ones(1)})
    assert "t" in load_tensors(str(path))[0]


# Nested states ----------------------------------------------------------------------------------

STATE = {
    "numbers": [1, 2.5, True, None, "text", 10**30, float("inf"), -0.0],
    0: {"key of a number": (1, (2, [3]))},
    (1, "a"): torch.Size([2, 3]),
    "tensors": {"a": torch.arange(3), "b/c": torch.ones(2, 2)},
    "rng": torch.Generator().get_state(),
    "counts": Counter({5: 2}),
    "set": {1, 2},
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
    "empty": [{}, [], ()],
}


def same(a, b) -> bool:
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and repr(a) == repr(b)


def test_nested_state_survives_a_file(path):
    save_state(path, "test", STATE)
    assert same(load_state(path, "test"), STATE)


def test_structure_is_json():
    tensors, structure = flatten_state(STATE)
    assert json.loads(json.dumps(structure, allow_nan=False)) == structure
    assert same(unflatten_state(tensors, structure), STATE)


def test_colliding_places_stay_apart():
    state = {"a": {"b": torch.tensor(1)}, "a/b": torch.tensor(2), 1: torch.tensor(3), "1": torch.tensor(4)}
    tensors, structure = flatten_state(state)
    assert len(tensors) == 4 and same(unflatten_state(tensors, structure), state)


def test_numpy_arrays_and_numbers_survive():
    state = {"array": np.arange(3, dtype=np.float32), "number": np.float64(0.5)}
    found = unflatten_state(*flatten_state(state))
    assert found["array"].dtype == np.float32 and found["array"].tolist() == [0, 1, 2]
    assert type(found["number"]) is np.float64 and found["number"] == 0.5


def test_default_dict_becomes_a_dict():
    assert unflatten_state(*flatten_state(defaultdict(list, a=[1]))) == {"a": [1]}


@pytest.mark.parametrize("value", [print, object(), 1j, b"bytes", np.array(["a"]), torch.Generator()])
def test_state_of_other_kinds_error(value):
    with pytest.raises(FileFormatError, match="'a/0'"):
        flatten_state({"a": [value]})


def test_state_of_another_kind_of_file_error(path):
    save_state(path, "optimizer", {})
    with pytest.raises(FileFormatError, match=f"{re.escape(str(path))}.*'parameters'.*'optimizer'"):
        load_state(path, "parameters")
