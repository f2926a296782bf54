"""Faults in files: of parameters, of optimizers and of a whole run of SVI."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from brancher import clear_param_store, get_param_store, optim, param, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.errors import BrancherWarning, FileFormatError, MissingFileError, OptimError, ParamError
from brancher.infer import SVI
from brancher.infer.autoguide import AutoNormal

KINDS = ("store", "optimizer", "svi")


def model():
    z = sample("z", dist.Normal(0.0, 1.0))
    sample("x", dist.Normal(z, 1.0), obs=torch.tensor(3.0))


def guide():
    scale = param("scale", torch.tensor(1.0), constraint=constraints.positive)
    sample("z", dist.Normal(param("loc", torch.tensor(0.0)), scale))


class Setting:
    """A trained SVI, and the save and load of one kind of file."""

    def __init__(self, kind: str) -> None:
        self.optimizers = [optim.Adam({"lr": 0.1})]
        self.svi = SVI(model, guide, self.optimizers[0], compile=False)
        self.svi.step()
        owner = {"store": get_param_store(), "optimizer": self.svi.optim, "svi": self.svi}[kind]
        self.save, self.load = owner.save, owner.load

    def counters(self):
        return self.svi.steps, list(self.svi.history)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def setting(kind):
    return Setting(kind)


def damaged(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    return {
        "cut in half": content[:middle],
        "one byte short": content[:-1],
        "one byte more": content + b"x",
        "one byte changed": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
        "empty": b"",
        "text": b"hello",
        "zeros": bytes(len(content)),
        "header beyond the end": (2**40).to_bytes(8, "little") + content[8:],
    }


@pytest.mark.parametrize("damage", list(damaged(bytes(16))))
def test_damaged_file_error(refuses, setting, tmp_path, damage):
    path = tmp_path / "saved"
    setting.save(path)
    path.write_bytes(damaged(path.read_bytes())[damage])
    before = setting.counters()
    refuses(lambda: setting.load(path), FileFormatError, RuntimeError, str(path), setup=setting)
    if setting.counters() != before:
        pytest.fail("steps or history changed")


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["BRANCHER_TRAP"],)


@pytest.mark.parametrize("write", ["pickle", "torch"])
def test_file_of_pickle_runs_no_code(refuses, setting, tmp_path, monkeypatch, write):
    trap, path = tmp_path / "sprung", tmp_path / "saved"
    monkeypatch.setenv("BRANCHER_TRAP", str(trap))
    with path.open("wb") as file:
        if write == "pickle":
            pickle.dump(Trap(), file)
        else:
            torch.save({"loc": Trap()}, file)
    refuses(lambda: setting.load(path), FileFormatError, ValueError, str(path), setup=setting)
    if trap.exists():
        pytest.fail("loading ran code")


def test_file_of_another_kind_error(refuses, kind, tmp_path):
    other = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
    path = tmp_path / "saved"
    Setting(other).save(path)
    setting = Setting(kind)
    refuses(lambda: setting.load(path), FileFormatError, ValueError, str(path), setup=setting)


def test_missing_file_error(refuses, setting, tmp_path):
    path = tmp_path / "missing"
    words = (str(path), "No such file")
    refuses(lambda: setting.load(path), MissingFileError, FileNotFoundError, *words, setup=setting)


def test_missing_directory_error(refuses, setting):
    path = "/nonexistent/x.pt"
    refuses(lambda: setting.save(path), MissingFileError, FileNotFoundError, path, setup=setting)


@pytest.mark.parametrize("act", ["save", "load"])
def test_directory_as_file_error(refuses, setting, tmp_path, act):
    call = getattr(setting, act)
    refuses(lambda: call(tmp_path), FileFormatError, ValueError, str(tmp_path), setup=setting)


@pytest.mark.parametrize("act", ["save", "load"])
@pytest.mark.parametrize("path", [None, 3.0, ["a"]])
def test_path_of_another_kind_error(refuses, setting, act, path):
    call = getattr(setting, act)
    refuses(lambda: call(path), FileFormatError, TypeError, "path", type(path).__name__, setup=setting)


def test_failed_save_keeps_the_former_file(refuses, setting, tmp_path, monkeypatch):
    path = tmp_path / "saved"
    setting.save(path)
    former = path.read_bytes()
    setting.svi.step()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    words = (str(path), "No space left")
    refuses(lambda: setting.save(path), FileFormatError, ValueError, *words, setup=setting)
    if path.read_bytes() != former or [p.name for p in tmp_path.iterdir()] != ["saved"]:
        pytest.fail("the former file is not whole, or a temporary one was left")


def test_run_of_another_optimizer_error(refuses, tmp_path):
    path = tmp_path / "saved"
    Setting("svi").save(path)
    clear_param_store()
    svi = SVI(model, guide, optim.SGD({"lr": 0.1}), compile=False)
    svi.step()
    refuses(lambda: svi.load(path), OptimError, ValueError, "'SGD'", "Adam")
    if svi.steps != 1:
        pytest.fail(f"{svi.steps} steps")


def test_run_of_another_guide_error(refuses, tmp_path):
    path = tmp_path / "saved"
    Setting("svi").save(path)
    clear_param_store()
    svi = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.1}), compile=False)
    svi.step()
    refuses(lambda: svi.load(path), FileFormatError, ValueError, str(path), "locs.z")


def test_failure_while_a_run_is_put_back_changes_nothing_error(refuses, tmp_path, monkeypatch):
    path, setting = tmp_path / "saved", Setting("svi")
    setting.save(path)
    setting.svi.step()
    failures = iter([KeyboardInterrupt])
    load = setting.svi.optim.load_state_dict

    def interrupted(*args, **kwargs):
        for failure in failures:
            raise failure
        load(*args, **kwargs)

    monkeypatch.setattr(setting.svi.optim, "load_state_dict", interrupted)
    values = {name: value.detach().clone() for name, value in get_param_store().items()}
    with pytest.raises(KeyboardInterrupt):
        setting.load(path)
    now = {name: value.detach() for name, value in get_param_store().items()}
    if now != values or setting.svi.steps != 2:
        pytest.fail(f"{now} after {values}, {setting.svi.steps} steps")


def test_load_tells_what_it_replaces(tmp_path):
    path = tmp_path / "saved"
    Setting("store").save(path)
    clear_param_store()
    param("other", torch.zeros(2))
    with pytest.warns(BrancherWarning, match=r"missing \['other'\], unexpected \['scale', 'loc'\]|other"):
        report = get_param_store().load(path)
    if (report.missing, sorted(report.unexpected)) != (["other"], ["loc", "scale"]):
        pytest.fail(f"report {report}")


def test_loaded_parameter_of_another_shape_is_told_at_its_declaration(refuses, tmp_path):
    path = tmp_path / "saved"
    Setting("store").save(path)
    get_param_store().load(path)
    refuses(lambda: param("loc", torch.zeros(2)), ParamError, ValueError, "'loc'", "(2,)", "()")


def test_device_of_another_kind_error(refuses, tmp_path):
    path = tmp_path / "saved"
    Setting("store").save(path)
    refuses(
        lambda: get_param_store().load(path, map_location="moon"),
        ParamError,
        ValueError,
        "map_location",
        "moon",
    )
