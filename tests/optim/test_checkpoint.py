from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.distributions import constraints
from torch.optim import lr_scheduler

from brancher import optim
from brancher.errors import BrancherWarning, FileFormatError, MissingFileError, OptimError
from brancher.optim import Optimizer, as_optimizer
from brancher.optim.named import OPTIMIZERS
from brancher.params import ParamStore, load_state, save_state

DENSE = sorted(OPTIMIZERS.keys() - {"LBFGS", "SparseAdam"})
SCHEDULES = {
    "none": None,
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, milestones=[2, 5], gamma=0.5),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.5, 2), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[3]
    ),
}


class Training:
    """A noisy fit of a constrained parameter and of a module."""

    def __init__(self, optimizer: Optimizer) -> None:
        torch.manual_seed(0)
        self.optimizer = optimizer
        self.store = ParamStore()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
        self.weight = torch.ones(2, 2)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            x = torch.randn(8, 2)
            matrix = self.store.declare("matrix", self.weight, constraints.positive)
            self.store.register_module("net", self.net)
            loss = (self.net[1](x @ self.net[0].weight) @ matrix - x).square().mean()
            named = self.store.unconstrained()
            self.optimizer.bind(named)
            for leaf, grad in zip(
                named.values(),
                torch.autograd.grad(loss, list(named.values()), allow_unused=True),
                strict=True,
            ):
                leaf.grad = grad
            self.optimizer.step()

    def save(self, path: Path) -> None:
        self.store.save(path.with_suffix(".params"))
        state = {"optimizer": self.optimizer.state_dict(), "rng": torch.get_rng_state()}
        save_state(path, "checkpoint", state)

    def load(self, path: Path) -> None:
        self.store.load(path.with_suffix(".params"))
        state = load_state(path, "checkpoint")
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])

    def bits(self) -> list[list[float]]:
        buffers = [buffer.double().flatten().tolist() for buffer in self.net.buffers()]
        return [leaf.flatten().tolist() for leaf in self.store.unconstrained().values()] + buffers


CASES = [
    *((name, "none") for name in DENSE),
    *(("Adam", schedule) for schedule in SCHEDULES if schedule != "none"),
]


@pytest.mark.parametrize(("name", "schedule"), CASES)
def test_saved_and_loaded_training_goes_on_bit_for_bit(name, schedule, tmp_path):
    def training() -> Training:
        made = Training(getattr(optim, name)(schedule=SCHEDULES[schedule]))
        if name == "Muon":  # takes matrices only
            for parameter in (made.net[0].bias, *made.net[1].parameters()):
                parameter.requires_grad_(False)
        return made

    straight = training()
    straight.run(7)
    broken = training()
    broken.run(3)
    broken.save(tmp_path / "c")
    resumed = training()
    torch.manual_seed(99)
    resumed.load(tmp_path / "c")
    resumed.run(4)
    assert resumed.bits() == straight.bits()
    assert [g.get("lr") for g in resumed.optimizer.param_groups] == [
        g.get("lr") for g in straight.optimizer.param_groups
    ]


def test_loading_into_a_trained_optimizer_goes_back_bit_for_bit(tmp_path):
    training = Training(optim.Adam(lr=0.1))
    training.run(3)
    training.save(tmp_path / "c")
    training.run(4)
    once = training.bits()
    training.load(tmp_path / "c")
    training.run(4)
    assert training.bits() == once


@pytest.fixture
def trained() -> Optimizer:
    training = Training(optim.Adam(lr=0.1))
    training.run(2)
    return training.optimizer


def fresh(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.ones(2, requires_grad=True) for name in names}


def step(optimizer: Optimizer, named: dict[str, torch.Tensor]) -> None:
    optimizer.bind(named)
    for leaf in named.values():
        leaf.grad = torch.ones_like(leaf)
    optimizer.step()


def test_state_is_by_name(trained):
    state = trained.state_dict()
    names = ["matrix", "net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"]
    assert state["groups"][0]["params"] == names and state["optimizer"] == "Adam"
    # net.0.bias takes no part in the loss.
    assert list(state["state"]) == [name for name in names if name != "net.0.bias"]


def test_state_is_a_copy():
    optimizer, named = optim.Adam(lr=0.1), fresh("a")
    step(optimizer, named)
    state = optimizer.state_dict()
    step(optimizer, named)
    assert state["state"]["a"]["step"].item() == 1


def test_state_of_parameters_that_come_later_waits():
    source, named = optim.Adam(lr=0.1), fresh("a", "b")
    for _ in range(3):
        step(source, named)
    target, later = optim.Adam(lr=0.5), fresh("a", "b")
    target.load_state_dict(source.state_dict())
    for count, names in enumerate((["a"], ["a", "b"]), 1):
        target.bind({name: later[name] for name in names})
        assert len(target.torch_optimizer.state) == count
    assert target.param_groups[0]["lr"] == 0.1
    assert {state["step"].item() for state in target.torch_optimizer.state.values()} == {3}


def test_order_of_parameters_does_not_matter():
    source, named = optim.Adam(lr=0.1), fresh("a", "b")
    source.bind(named)
    named["a"].grad, named["b"].grad = torch.ones(2), torch.full((2,), 5.0)
    source.step()
    target, other = optim.Adam(lr=0.1), fresh("b", "a")
    target.bind(other)
    target.load_state_dict(source.state_dict())
    assert torch.equal(
        target.torch_optimizer.state[other["b"]]["exp_avg"],
        source.torch_optimizer.state[named["b"]]["exp_avg"],
    )


def test_unsaved_state_of_an_unbound_optimizer_survives(trained):
    state = trained.state_dict()
    passed_on = optim.Adam(lr=0.1)
    passed_on.load_state_dict(state)
    assert passed_on.state_dict()["groups"][0]["params"] == state["groups"][0]["params"]


def test_other_names_warns_at_load(trained, tmp_path):
    trained.save(tmp_path / "o")
    other = optim.Adam(lr=0.1)
    other.bind(fresh("renamed"))
    with pytest.warns(BrancherWarning, match=r"unmatched entries \['matrix'.*none for \['renamed'\]"):
        other.load(tmp_path / "o")


def test_other_names_in_the_store_warns_at_load(trained, tmp_path):
    trained.save(tmp_path / "o")
    with ParamStore() as store:
        store.declare("renamed", 1.0)
        with pytest.warns(BrancherWarning, match=r"unmatched entries \['matrix'"):
            optim.Adam(lr=0.1).load(tmp_path / "o")


def test_state_of_another_shape_warns_and_begins_afresh():
    source, target = optim.Adam(lr=0.1), optim.Adam(lr=0.1)
    step(source, fresh("a"))
    target.load_state_dict(source.state_dict())
    bigger = {"a": torch.ones(3, requires_grad=True)}
    with pytest.warns(BrancherWarning, match=r"\(3,\).*'a'.*\(2,\)"):
        target.bind(bigger)
    step(target, bigger)


def test_state_of_another_class_changes_nothing_error(trained):
    other = optim.SGD(lr=0.1)
    with pytest.raises(OptimError, match=r"SGD.*Adam"):
        other.load_state_dict(trained.state_dict())
    assert other.state_dict()["groups"] == []


@pytest.mark.parametrize("state", [{}, None, {"state": {}}])
def test_malformed_state_error(trained, state):
    with pytest.raises(OptimError, match="state"):
        trained.set_state(state)


def test_truncated_file_changes_nothing_error(trained, tmp_path):
    path = tmp_path / "o"
    trained.save(path)
    path.write_bytes(path.read_bytes()[:-1])
    before = trained.state_dict()
    with pytest.raises(FileFormatError, match=re.escape(str(path))):
        trained.load(path)
    after = trained.state_dict()
    assert torch.equal(after["state"]["matrix"]["exp_avg"], before["state"]["matrix"]["exp_avg"])


def test_missing_file_error(trained):
    with pytest.raises(MissingFileError, match=r"/nonexistent/o.*No such file"):
        trained.load("/nonexistent/o")
    with pytest.raises(MissingFileError, match=r"/nonexistent/o.*No such file"):
        trained.save("/nonexistent/o")


def test_file_of_a_store_error(trained, tmp_path):
    ParamStore().save(tmp_path / "p")
    with pytest.raises(FileFormatError, match="'optimizer'"):
        trained.load(tmp_path / "p")


def test_scheduled_optimizer_saves_its_schedule(tmp_path):
    def scheduled():
        return optim.ExponentialLR({"optimizer": "SGD", "optim_args": {"lr": 1.0}, "gamma": 0.5})

    first, second = scheduled(), scheduled()
    step(as_optimizer(first), fresh("a"))
    first.step()
    first.save(tmp_path / "s")
    second.load(tmp_path / "s")
    step(as_optimizer(second), fresh("a"))
    second.step()
    assert as_optimizer(second).param_groups[0]["lr"] == 0.25
