"""Learning rates of the next steps, known before they are taken."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from brancher.errors import OptimError
from brancher.optim.classes import ClippedAdam
from brancher.optim.optimizer import Optimizer

#: The most steps that rates are made for at once.
MOST = 500


class Schedule:
    """Advances an optimizer's learning rates ahead of its steps, and can take that back.

    Args:
        optimizer: a bound optimizer.

    Raises:
        OptimError: its schedule needs the loss of every step.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        inner, self._rule = optimizer.torch_optimizer, optimizer.step_schedule
        if isinstance(self._rule, ReduceLROnPlateau):
            raise OptimError(
                f"optimizer '{optimizer.name}': expected a schedule that needs nothing but the step, got "
                "ReduceLROnPlateau; run with compile=False"
            )
        self._name, self._groups = optimizer.name, optimizer.param_groups
        self._decays = isinstance(inner, ClippedAdam)
        self._is_fixed = self._rule is None and not self._decays
        self._before = [] if self._is_fixed else [_options(group) for group in self._groups]
        self._rule_before = None if self._rule is None else self._rule.state_dict()

    def advance(
        self, groups: Sequence[dict[str, Any]], devices: Sequence[torch.device], steps: int
    ) -> tuple[torch.Tensor, ...]:
        """The rates of the next steps for each of the given parameter groups, on its device.

        Returns:
            A float64 scalar a group where rates stay as they are, else a vector of length
            :data:`MOST` whose first ``steps`` entries count.

        Raises:
            OptimError: the schedule fails, or changes other options than the rate; all is as before then.
        """
        if self._is_fixed:
            pairs = zip(groups, devices, strict=True)
            return tuple([_constant(float(group["lr"]), device) for group, device in pairs])
        rows = [[0.0] * MOST for _ in groups]
        try:
            for step in range(steps):
                self._step(groups, rows, step)
            self._check_others()
        except Exception as error:
            self.rewind()
            if isinstance(error, OptimError):
                raise
            raise OptimError(
                f"optimizer '{self._name}': expected a schedule that gives the rates of {steps} steps, got "
                f"{type(error).__name__}: {error}; run with compile=False"
            ) from error
        return tuple(
            torch.tensor(row, dtype=torch.float64, device=device)
            for row, device in zip(rows, devices, strict=True)
        )

    def _step(self, groups: Sequence[dict[str, Any]], rows: list[list[float]], step: int) -> None:
        if self._decays:
            for group in self._groups:
                group["lr"] *= group["lrd"]
        for row, group in zip(rows, groups, strict=True):
            row[step] = float(group["lr"])
        if self._rule is not None:
            self._rule.step()

    def _check_others(self) -> None:
        """Refuse a schedule of momenta: the graph holds them as they were."""
        changed = {
            key
            for group, before in zip(self._groups, self._before, strict=True)
            for key in before.keys() - {"lr"}
            if group[key] != before[key]
        }
        if changed:
            raise OptimError(
                f"optimizer '{self._name}': expected a schedule of the learning rate alone, got "
                f"{type(self._rule).__name__}, which changes {sorted(changed)} too; run with compile=False, "
                "or give the schedule cycle_momentum=False"
            )

    def rewind(self) -> None:
        """Put rates and schedule back to where they were."""
        for group, options in zip(self._groups, self._before, strict=False):
            group.update(options)
        if self._rule is not None and self._rule_before is not None:
            self._rule.load_state_dict(self._rule_before)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


@functools.lru_cache(maxsize=64)
def _constant(rate: float, device: torch.device) -> torch.Tensor:
    return torch.tensor(rate, dtype=torch.float64, device=device)
