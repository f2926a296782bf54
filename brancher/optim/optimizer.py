"""One torch optimizer over parameters that are known by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from operator import is_
from typing import Any

import torch
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LRScheduler

from brancher.optim import direct
from brancher.optim import schedule as schedules
from brancher.optim import state as states
from brancher.optim.clipping import ClipArgs, check_clip_args, clip
from brancher.optim.schedule import MakeSchedule
from brancher.optim.sources import FromClass, FromFactory, FromInstance, Made, Options, Source
from brancher.params import current_store


class Optimizer:
    """A torch optimizer whose parameters come, go and are saved by name.

    Args:
        source: a torch optimizer class, an instance, or a function from a list of tensors to one.
        options: for a class: keyword arguments, or a function that returns those of one
            parameter, called with its name (or with its module's name and its own).
        clip_args: ``{"clip_norm": x}`` and/or ``{"clip_value": x}``, or a function as above;
            each tensor's gradient is cut by itself.
        schedule: makes a torch lr_scheduler from the torch optimizer.
        schedule_every_step: advance the schedule at every step; False leaves it to ``advance``.

    Raises:
        OptimError: an option is invalid.
        OptimTypeError: an argument is of another kind.

    Example:
        >>> optimizer = Optimizer(torch.optim.SGD, {"lr": 0.5})
        >>> w = torch.tensor(1.0, requires_grad=True)
        >>> optimizer.bind({"w": w})
        >>> (w**2).backward()
        >>> optimizer.step()
        >>> w
        tensor(0., requires_grad=True)
    """

    def __init__(
        self,
        source: type[TorchOptimizer] | TorchOptimizer | Callable[..., TorchOptimizer],
        options: Options | None = None,
        *,
        clip_args: ClipArgs = None,
        schedule: MakeSchedule | None = None,
        schedule_every_step: bool = True,
    ) -> None:
        self._source = _source(source, {} if options is None else options)
        check_clip_args(clip_args)
        schedules.check_schedule(schedule, self._source.example(), schedule_every_step)
        self._clip_args = clip_args
        self._make_schedule = schedule
        self._every_step = schedule_every_step
        self._torch: TorchOptimizer | None = None
        self._schedule: LRScheduler | None = None
        self._keys: list[Any] = []
        self._leaves: dict[str, torch.Tensor] = {}
        self._bound: tuple[tuple[str, ...], tuple[torch.Tensor, ...]] = ((), ())
        self._waiting: dict[str, Any] | None = None
        self._unnamed = count()

    def bind(self, named: Mapping[str, torch.Tensor]) -> None:
        """Take in parameters that are new, and anew those that were made again.

        Costs next to nothing when nothing changed, so it is called at every step.

        Args:
            named: unconstrained leaves by parameter name.

        Raises:
            OptimError: the options of a parameter are invalid, or an adopted instance lacks it.
        """
        names, leaves = self._bound
        if len(named) == len(names) and all(map(is_, named.values(), leaves)) and tuple(named) == names:
            return
        known = {id(leaf) for leaf in self._leaves.values()}
        fresh = {name: leaf for name, leaf in named.items() if id(leaf) not in known}
        if fresh:
            made = self._source.make(fresh)
            self._drop([name for name in fresh if name in self._leaves])
            self._join(made)
            self._leaves.update(fresh)
            self._restore(list(fresh))
        self._bound = tuple(named), tuple(named.values())

    def step(self) -> None:
        """Take one step with the gradients that the leaves hold, and clear them."""
        if self._torch is None:
            return
        clip(self._leaves, self._clip_args)
        if self._schedule is not None and self._every_step:
            schedules.step_both(self._torch, self._schedule)
        else:
            direct.step(self._torch)
        self.zero_grad()

    def zero_grad(self) -> None:
        """Set every leaf's gradient to None."""
        for leaf in self._leaves.values():
            leaf.grad = None

    def advance(self, *args: Any) -> None:
        """Advance the schedule by one; ``args`` are what the torch scheduler's ``step`` takes."""
        if self._schedule is not None:
            self._schedule.step(*args)

    def __call__(self, params: Iterable[torch.Tensor]) -> None:
        """Take one step on these leaves only; names are looked up in the current store."""
        leaves = list(params)
        named = {self._name_of(leaf): leaf for leaf in leaves}
        self.bind({**self._leaves, **named})
        held_back = {name: leaf.grad for name, leaf in self._leaves.items() if name not in named}
        for name in held_back:
            self._leaves[name].grad = None
        try:
            self.step()
        finally:
            for name, grad in held_back.items():
                self._leaves[name].grad = grad

    def __repr__(self) -> str:
        return f"Optimizer({self.name})"

    @property
    def name(self) -> str:
        """Name of the torch class or of the function that makes the torch optimizer."""
        return self._source.name

    @property
    def torch_optimizer(self) -> TorchOptimizer | None:
        """The torch optimizer, None before the first parameter is bound."""
        return self._torch

    @property
    def schedule(self) -> LRScheduler | None:
        """The torch lr_scheduler, None without one or before the first parameter is bound."""
        return self._schedule

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The torch optimizer's parameter groups."""
        return [] if self._torch is None else self._torch.param_groups

    @property
    def names(self) -> list[str]:
        """Names of the parameters that were bound."""
        return list(self._leaves)

    def named_leaves(self) -> dict[str, torch.Tensor]:
        """The bound leaves by name."""
        return dict(self._leaves)

    @property
    def step_schedule(self) -> LRScheduler | None:
        """The schedule that :meth:`step` advances, None where there is none or the user advances it."""
        return self._schedule if self._every_step else None

    @property
    def clip_args(self) -> ClipArgs:
        """How gradients are cut, as it was given."""
        return self._clip_args

    def state_dict(self) -> dict[str, Any]:
        """Return copies of options, state and schedule, by parameter name."""
        if self._torch is None:
            return states.empty(self.name) if self._waiting is None else self._waiting
        return states.take(self.name, self._torch, self._leaves, self._schedule)

    def load_state_dict(self, state: Mapping[str, Any], expected: Iterable[str] | None = None) -> None:
        """Put back what ``state_dict`` returned; warn about names that do not match.

        Parameters that are not bound yet receive their state when they are.

        Args:
            state: of an optimizer of the same class.
            expected: names that will be bound; None for those that are, or else those of the
                current store.

        Raises:
            OptimError: the state is malformed or of another class; nothing has changed then.
        """
        states.check(state, self.name)
        if expected is None:
            expected = self.names or current_store().keys()
        states.tell_unmatched(state, list(expected))
        self._waiting = states.copy_of(state)
        self._restore(self.names)

    def get_state(self) -> dict[str, Any]:
        """Return copies of options, state and schedule, by parameter name."""
        return self.state_dict()

    def set_state(self, state_dict: Mapping[str, Any]) -> None:
        """Put back what ``get_state`` returned; warn about names that do not match."""
        self.load_state_dict(state_dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a file, without pickle.

        Raises:
            MissingFileError: the directory does not exist.
        """
        states.save(path, self.state_dict())

    def load(self, path: str | os.PathLike[str], map_location: Any = None) -> None:
        """Read the state from a file; tensors move to the devices of their parameters.

        Args:
            path: what ``save`` wrote.
            map_location: accepted for programs written for Pyro.

        Raises:
            FileFormatError: the file is damaged or of another kind; nothing has changed then.
        """
        self.load_state_dict(states.load(path))

    def _join(self, made: Made) -> None:
        """Let the one torch optimizer hold what a new one holds."""
        if self._torch is None or self._torch is made.optimizer:
            self._torch, self._keys = made.optimizer, made.keys
        else:
            for group, key in zip(made.optimizer.param_groups, made.keys, strict=True):
                self._join_group(self._torch, group, key)
            self._torch.state.update(made.optimizer.state)
        if self._schedule is None and self._make_schedule is not None:
            self._schedule = schedules.made(self._make_schedule, self._torch)

    def _join_group(self, optimizer: TorchOptimizer, group: dict[str, Any], key: Any) -> None:
        if key in self._keys:
            optimizer.param_groups[self._keys.index(key)]["params"].extend(group["params"])
            return
        optimizer.param_groups.append(group)
        self._keys.append(key)
        if self._schedule is not None:
            schedules.extend(self._schedule, group)

    def _drop(self, names: list[str]) -> None:
        """Forget leaves that were made again under their names."""
        if self._torch is None or isinstance(self._source, FromInstance):
            return
        for name in names:
            old = self._leaves.pop(name)
            self._torch.state.pop(old, None)
            for group in self._torch.param_groups:
                group["params"] = [leaf for leaf in group["params"] if leaf is not old]

    def _restore(self, names: list[str]) -> None:
        """Give parameters the state that waits for them."""
        if self._torch is None or self._waiting is None:
            return
        self._waiting = states.put(self._torch, self._leaves, names, self._waiting, self._schedule)

    def _name_of(self, leaf: torch.Tensor) -> str:
        known = next((name for name, held in self._leaves.items() if held is leaf), None)
        name = known or current_store().param_name(leaf)
        return name or f"unnamed.{next(self._unnamed)}"


def _source(source: Any, options: Options) -> Source:
    if isinstance(source, TorchOptimizer):
        return FromInstance(source)
    if isinstance(source, type) and issubclass(source, TorchOptimizer):
        made = FromClass(source, options)
        made.example()
        return made
    return FromFactory(source)
