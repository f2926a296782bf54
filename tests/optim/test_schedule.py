from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from brancher import distributions as dist
from brancher import get_param_store, optim, param, sample
from brancher.errors import OptimError, OptimTypeError
from brancher.infer import SVI
from brancher.optim import Optimizer, as_optimizer

SGD = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 1.0}}


def step(optimizer: Optimizer, named: dict[str, torch.Tensor]) -> None:
    optimizer.bind(named)
    for parameter in named.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def leaf() -> torch.Tensor:
    return torch.zeros(2, requires_grad=True)


def rates(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ConstantLR", {"factor": 0.5, "total_iters": 2}),
        ("CosineAnnealingLR", {"T_max": 4}),
        ("CosineAnnealingWarmRestarts", {"T_0": 2}),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "cycle_momentum": False}),
        ("ExponentialLR", {"gamma": 0.5}),
        ("LambdaLR", {"lr_lambda": lambda epoch: 0.5**epoch}),
        ("LinearLR", {}),
        ("MultiStepLR", {"milestones": [1, 3], "gamma": 0.1}),
        ("MultiplicativeLR", {"lr_lambda": lambda epoch: 0.5}),
        ("OneCycleLR", {"max_lr": 1.0, "total_steps": 10, "cycle_momentum": False}),
        ("PolynomialLR", {"total_iters": 5}),
        ("StepLR", {"step_size": 2}),
    ],
)
def test_every_schedule_follows_torch(name, arguments):
    scheduled = getattr(optim, name)({**SGD, **arguments})
    optimizer, named = as_optimizer(scheduled), {"a": leaf()}
    reference = torch.optim.SGD([leaf()], lr=1.0)
    schedule = getattr(lr_scheduler, name)(reference, **arguments)
    for _ in range(5):
        step(optimizer, named)
        reference.step()
        assert rates(optimizer) == [reference.param_groups[0]["lr"]]
        scheduled.step()
        schedule.step()


def test_scheduled_optimizer_is_advanced_by_its_user_only():
    scheduled = optim.ExponentialLR({**SGD, "gamma": 0.5})
    optimizer, named = as_optimizer(scheduled), {"a": leaf()}
    for _ in range(3):
        step(optimizer, named)
    assert rates(optimizer) == [1.0] and named["a"].tolist() == [-3.0, -3.0]
    scheduled.step()
    assert rates(optimizer) == [0.5] and named["a"].tolist() == [-3.0, -3.0]


def test_scheduled_optimizer_called_on_leaves_steps():
    scheduled, parameter = optim.ExponentialLR({**SGD, "gamma": 0.5}), leaf()
    parameter.grad = torch.ones(2)
    scheduled([parameter])
    assert parameter.tolist() == [-1.0, -1.0]


def test_users_dict_is_not_changed():
    arguments = {**SGD, "gamma": 0.5}
    optim.ExponentialLR(arguments)
    optim.ExponentialLR(arguments)
    assert arguments.keys() == {"optimizer", "optim_args", "gamma"}


def test_reduce_on_plateau_takes_the_loss():
    scheduled = optim.ReduceLROnPlateau({**SGD, "patience": 0, "factor": 0.5})
    optimizer = as_optimizer(scheduled)
    step(optimizer, {"a": leaf()})
    for loss in (1.0, 1.0):
        scheduled.step(loss)
    assert rates(optimizer) == [0.5]


def test_schedule_given_to_an_optimizer_advances_at_every_step():
    optimizer, named = (
        optim.SGD(lr=1.0, schedule=lambda o: lr_scheduler.ExponentialLR(o, gamma=0.5)),
        {"a": leaf()},
    )
    for _ in range(3):
        step(optimizer, named)
    assert rates(optimizer) == [0.125] and named["a"].tolist() == [-1.75, -1.75]


def test_schedule_before_the_first_parameter_waits():
    scheduled = optim.ExponentialLR({**SGD, "gamma": 0.5})
    scheduled.step()
    optimizer = as_optimizer(scheduled)
    step(optimizer, {"a": leaf()})
    assert rates(optimizer) == [1.0]


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.ExponentialLR(o, gamma=0.5),
        lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.5**epoch),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o, 1.0), lr_scheduler.ExponentialLR(o, 0.5)], milestones=[1]
        ),
        lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ExponentialLR(o, 0.5)], optimizer=o),
    ],
)
def test_parameter_with_options_of_its_own_joins_a_schedule(schedule):
    optimizer = optim.SGD(lambda name: {"lr": 1.0 if name == "a" else 8.0}, schedule=schedule)
    named = {"a": leaf()}
    step(optimizer, named)
    named["b"] = leaf()
    for _ in range(3):
        step(optimizer, named)
    assert len(rates(optimizer)) == 2 and rates(optimizer)[0] < 1.0 and rates(optimizer)[1] < 8.0


def test_schedule_that_needs_the_loss_error():
    with pytest.raises(OptimError, match="ReduceLROnPlateau"):
        optim.SGD(lr=1.0, schedule=lr_scheduler.ReduceLROnPlateau)


@pytest.mark.parametrize("arguments", [{}, {"gamma": 0.5}, 3, {"optim_args": {"lr": 0.1}, "gamma": 0.5}])
def test_schedule_without_an_optimizer_error(arguments):
    with pytest.raises(OptimError, match=r"'ExponentialLR'.*'optimizer'"):
        optim.ExponentialLR(arguments)


def test_schedule_of_bad_arguments_error():
    with pytest.raises(OptimError, match="gama"):
        optim.ExponentialLR({**SGD, "gama": 0.5})


def test_schedule_of_a_bad_rate_error():
    with pytest.raises(OptimError, match="-1"):
        optim.ExponentialLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": -1}, "gamma": 0.5})


def test_schedule_of_another_type_error():
    with pytest.raises(OptimTypeError, match="schedule"):
        optim.SGD(lr=1.0, schedule=3)
    with pytest.raises(OptimTypeError, match="schedule"):
        optim.SGD(lr=1.0, schedule=lambda o: o)


def failing(at):
    def make(optimizer):
        def factor(step):
            if step == at:
                raise ZeroDivisionError("no rate")
            return 0.5**step

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    return make


SCHEDULES = {
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.3, total_steps=6),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 4),
    "chained": lambda o: torch.optim.lr_scheduler.ChainedScheduler(
        [torch.optim.lr_scheduler.ExponentialLR(o, 0.9), torch.optim.lr_scheduler.StepLR(o, 2)]
    ),
}


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1)], ids=["float", "tensor"])
def test_schedule_gives_each_step_the_rate_that_torch_gives_it(make, rate):
    def rate_again():
        return rate.clone() if isinstance(rate, torch.Tensor) else rate

    options = {"capturable": False, "foreach": False}
    ours, theirs = (torch.tensor(1.0, requires_grad=True) for _ in range(2))
    optimizer = Optimizer(torch.optim.Adam, {"lr": rate_again(), **options}, schedule=make)
    optimizer.bind({"w": ours})
    by_hand = torch.optim.Adam([theirs], lr=rate_again(), **options)
    schedule = make(by_hand)
    for _ in range(5):
        for leaf in (ours, theirs):
            leaf.grad = None
            (leaf**2).backward()
        optimizer.step()
        by_hand.step()
        schedule.step()
        torch.testing.assert_close(ours, theirs)
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(float(by_hand.param_groups[0]["lr"]))


@pytest.mark.filterwarnings("ignore:optimizer 'SGD'. expected a schedule that gives the rates of 1 steps")
@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_schedule_that_fails_in_the_middle_changes_nothing_error(compile):
    def model():
        sample("x", dist.Normal(param("loc", torch.tensor(0.0)), 1.0), obs=torch.tensor(1.0))

    svi = SVI(
        model, lambda: None, Optimizer(torch.optim.SGD, {"lr": 0.1}, schedule=failing(4)), compile=compile
    )
    for _ in range(3):
        svi.step()
    loc, rates = get_param_store()["loc"].clone(), svi.optim.state_dict()
    for _ in range(2):
        with pytest.raises(OptimError, match="ZeroDivisionError: no rate"):
            svi.step()
        assert torch.equal(get_param_store()["loc"], loc) and get_param_store().get_param("loc").grad is None
        assert str(svi.optim.state_dict()) == str(rates)
