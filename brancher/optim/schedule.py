"""Learning-rate schedules over an optimizer whose parameters arrive one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from brancher.errors import OptimError, OptimTypeError

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
