"""Learning-rate schedules over an optimizer whose parameters arrive one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from brancher.errors import OptimError, OptimTypeError
from brancher.optim import direct

MakeSchedule: TypeAlias = Callable[[TorchOptimizer], LRScheduler]

# What torch's schedulers keep for each parameter group.
_PER_GROUP = ("base_lrs", "lr_lambdas", "min_lrs", "max_lrs", "_last_lr", "base_momentums", "max_momentums")


def check_schedule(make: MakeSchedule | None, example: TorchOptimizer | None, every_step: bool) -> None:
    """Try a schedule on a made-up optimizer, so that mistakes show before training."""
    if make is None:
        return
    if not callable(make):
        raise OptimTypeError(
            f"optimizer: expected schedule as a function of the torch optimizer, got {type(make).__name__}; "
            "write schedule=lambda optimizer: ExponentialLR(optimizer, gamma=0.99)"
        )
    if example is None:
        return
    schedule = made(make, example)
    if not isinstance(schedule, ReduceLROnPlateau):
        example.step()
        _try(schedule.step)
    elif every_step:
        raise OptimError(
            "optimizer: expected a schedule that needs nothing but the step, got ReduceLROnPlateau, "
            "which needs the loss; use brancher.optim.ReduceLROnPlateau and its step(loss)"
        )


def made(make: MakeSchedule, optimizer: TorchOptimizer) -> LRScheduler:
    """Make the schedule of an optimizer."""
    schedule = _try(lambda: make(optimizer))
    if not isinstance(schedule, LRScheduler):
        raise OptimTypeError(
            f"optimizer: expected schedule to return a torch lr_scheduler, got {type(schedule).__name__}; "
            "return for example torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.99)"
        )
    return schedule


def step_both(optimizer: TorchOptimizer, schedule: LRScheduler) -> None:
    """Step the optimizer, then the schedule; neither where the schedule fails.

    Raises:
        OptimError: the schedule fails; parameters, rates and schedule are as before.
    """
    if not getattr(optimizer, "_opt_called", False):  # torch warns of a schedule that steps first
        direct.step(optimizer)
        schedule.step()
        return
    groups = optimizer.param_groups
    now = [_options(group) for group in groups]
    kept = _remembered(schedule)
    try:
        schedule.step()
    except Exception as error:
        for inner, fields in kept:
            vars(inner).update(fields)
        _put_back(groups, now)
        raise OptimError(
            f"optimizer: expected a schedule for step {schedule.last_epoch + 1} too, got "
            f"{type(error).__name__}: {error}; nothing was changed: give the schedule "
            "more steps, or take it out"
        ) from error
    following = [_options(group) for group in groups]
    _put_back(groups, now)
    direct.step(optimizer)
    _put_back(groups, following)


def _remembered(schedule: LRScheduler) -> list[tuple[LRScheduler, dict[str, Any]]]:
    """Schedules that make up a schedule, each with a picture of its fields."""
    fields = {key: list(value) if isinstance(value, list) else value for key, value in vars(schedule).items()}
    inner = [pair for each in getattr(schedule, "_schedulers", ()) for pair in _remembered(each)]
    return [(schedule, fields), *inner]


def _options(group: dict[str, Any]) -> dict[str, Any]:
    # A rate that is a tensor is changed in place.
    return {
        key: value.clone() if isinstance(value, torch.Tensor) else value
        for key, value in group.items()
        if key != "params"
    }


def _put_back(groups: list[dict[str, Any]], options: list[dict[str, Any]]) -> None:
    for group, fields in zip(groups, options, strict=True):
        for key, value in fields.items():
            if isinstance(value, torch.Tensor):
                group[key].copy_(value)
            else:
                group[key] = value


def _try(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except (ValueError, TypeError, KeyError) as error:
        raise OptimError(
            f"optimizer: expected a schedule that fits, got an error ({error}); correct its arguments"
        ) from error


def extend(schedule: LRScheduler, group: dict[str, Any]) -> None:
    """Make room for one more parameter group, which follows the rule of the last one."""
    for inner in getattr(schedule, "_schedulers", ()):
        extend(inner, group)
    group.setdefault("initial_lr", group["lr"])
    for key in _PER_GROUP:
        values = getattr(schedule, key, None)
        if isinstance(values, list) and values:
            values.append(group["lr"] if key in ("base_lrs", "_last_lr") else values[-1])
