"""Torch's optimizers and schedules under their own names, in Pyro's way of giving options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LRScheduler

from brancher.absent import INSTEAD, refuse
from brancher.errors import OptimError, OptimTypeError, nearest
from brancher.optim import classes
from brancher.optim.clipping import ClipArgs
from brancher.optim.optimizer import Optimizer
from brancher.optim.schedule import MakeSchedule
from brancher.optim.sources import Options


def _subclasses(module: Any, base: type) -> dict[str, Any]:
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {n: c for n, c in found.items() if isinstance(c, type) and issubclass(c, base) and c is not base}


OPTIMIZERS: dict[str, type[TorchOptimizer]] = {
    **_subclasses(torch.optim, TorchOptimizer),
    "AdagradRMSProp": classes.AdagradRMSProp,
    "ClippedAdam": classes.ClippedAdam,
}
SCHEDULES: dict[str, type[LRScheduler]] = _subclasses(torch.optim.lr_scheduler, LRScheduler)


class OptimizerClass:
    """What ``brancher.optim.Adam`` and its like are: called with options, they make an optimizer.

    Example:
        >>> from brancher.optim import Adam
        >>> Adam({"lr": 0.05})
        Optimizer(Adam)
        >>> Adam(lr=0.05, clip_args={"clip_norm": 10.0})
        Optimizer(Adam)
    """

    def __init__(self, torch_class: type[TorchOptimizer]) -> None:
        self.torch_class = torch_class
        self.__name__ = torch_class.__name__
        self.__doc__ = torch_class.__doc__

    def __repr__(self) -> str:
        return f"brancher.optim.{self.__name__}"

    def __call__(
        self,
        optim_args: Options | None = None,
        clip_args: ClipArgs = None,
        *,
        schedule: MakeSchedule | None = None,
        **options: Any,
    ) -> Optimizer:
        """Make an optimizer.

        Args:
            optim_args: options as a dict, or a function from a parameter's name to a dict.
            clip_args: ``{"clip_norm": x}`` and/or ``{"clip_value": x}``.
            schedule: makes a torch lr_scheduler, advanced at every step.
            **options: options as keywords, in place of ``optim_args``.
        """
        if optim_args is not None and options:
            raise OptimError(
                f"optimizer '{self.__name__}': expected options in one place, got optim_args and keywords "
                f"{sorted(options)}; put all into the dict"
            )
        chosen = options if optim_args is None else optim_args
        return Optimizer(self.torch_class, chosen, clip_args=clip_args, schedule=schedule)


class ScheduledOptimizer:
    """An optimizer with a schedule that its user advances, as in Pyro.

    SVI steps ``.optimizer``; ``.step()`` is the schedule's.

    Args:
        schedule: a torch lr_scheduler class.
        optim_args: ``optimizer`` (a torch class or a name), ``optim_args`` (its options) and the
            schedule's own arguments.
        clip_args: see :class:`Optimizer`.

    Raises:
        OptimError: an entry is missing or invalid.

    Example:
        >>> from brancher.optim import ExponentialLR
        >>> ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.99})
        ScheduledOptimizer(ExponentialLR, Adam)
    """

    def __init__(self, schedule: type[LRScheduler], optim_args: Any, clip_args: ClipArgs = None) -> None:
        self._name = schedule.__name__
        if not isinstance(optim_args, Mapping) or "optimizer" not in optim_args:
            raise OptimError(
                f"schedule '{self._name}': expected a dict with 'optimizer' and 'optim_args', got "
                f"{optim_args!r}; write {self._name}({{'optimizer': torch.optim.Adam, "
                "'optim_args': {'lr': 0.01}, ...})"
            )
        rest = {key: value for key, value in optim_args.items() if key not in ("optimizer", "optim_args")}
        self.optimizer = Optimizer(
            torch_class(optim_args["optimizer"]),
            optim_args.get("optim_args", {}),
            clip_args=clip_args,
            schedule=partial(schedule, **rest),
            schedule_every_step=False,
        )

    def __repr__(self) -> str:
        return f"ScheduledOptimizer({self._name}, {self.optimizer.name})"

    def step(self, *args: Any, epoch: int | None = None) -> None:
        """Advance the schedule; ReduceLROnPlateau takes the loss, others an epoch to go to."""
        self.optimizer.advance(*args, *(() if epoch is None else (epoch,)))

    def __call__(self, params: Iterable[torch.Tensor]) -> None:
        """Take one step of the optimizer on these leaves."""
        self.optimizer(params)

    def get_state(self) -> dict[str, Any]:
        """Return copies of options, state and schedule, by parameter name."""
        return self.optimizer.get_state()

    def set_state(self, state_dict: Mapping[str, Any]) -> None:
        """Put back what ``get_state`` returned."""
        self.optimizer.set_state(state_dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a file, without pickle."""
        self.optimizer.save(path)

    def load(self, path: str | os.PathLike[str], map_location: Any = None) -> None:
        """Read the state from a file."""
        self.optimizer.load(path, map_location)


def torch_class(kind: Any) -> type[TorchOptimizer]:
    """Return the torch optimizer class that a class, a name or one of ours stands for."""
    if isinstance(kind, OptimizerClass):
        return kind.torch_class
    if isinstance(kind, type) and issubclass(kind, TorchOptimizer):
        return kind
    if isinstance(kind, str):
        if kind in OPTIMIZERS:
            return OPTIMIZERS[kind]
        raise OptimError(
            f"optimizer '{kind}': expected one of {sorted(OPTIMIZERS)}, got an unknown name; "
            f"correct it{nearest(kind, OPTIMIZERS)}"
        )
    raise OptimTypeError(
        f"optimizer: expected a torch optimizer class or its name, got {type(kind).__name__}; "
        "write for example torch.optim.Adam"
    )


def by_name(name: str) -> OptimizerClass | Callable[..., ScheduledOptimizer]:
    """Return what makes the optimizer or schedule of that name.

    Raises:
        AttributeError: torch has neither.
        AbsentNameError: Pyro has it, and it is not here by decision.
    """
    if name in OPTIMIZERS:
        return OptimizerClass(OPTIMIZERS[name])
    if name in SCHEDULES:
        return partial(ScheduledOptimizer, SCHEDULES[name])
    if name in INSTEAD["brancher.optim"]:
        return refuse("brancher.optim")(name)  # type: ignore[no-any-return]
    raise AttributeError(
        f"module 'brancher.optim' has no attribute {name!r}{nearest(name, [*OPTIMIZERS, *SCHEDULES])}"
    )
