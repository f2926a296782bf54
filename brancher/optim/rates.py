"""Learning rates of the next steps, known before they are taken."""

from __future__ import annotations

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
        groups: the parameter groups whose rates are wanted.
        devices: where each of them is wanted.

    Raises:
        OptimError: its schedule needs the loss of every step.
    """

    def __init__(
        self, optimizer: Optimizer, groups: Sequence[dict[str, Any]], devices: Sequence[torch.device]
    ) -> None:
        inner, self._rule = optimizer.torch_optimizer, optimizer.step_schedule
        if isinstance(self._rule, ReduceLROnPlateau):
            raise OptimError(
                f"optimizer '{optimizer.name}': expected a schedule that needs nothing but the step, got "
                "ReduceLROnPlateau; run with compile=False"
            )
        self._optimizer, self._groups, self._devices = optimizer, groups, devices
        self._all_groups = optimizer.param_groups
        self._decays = isinstance(inner, ClippedAdam)
        self._is_fixed = self._rule is None and not self._decays
        self._fixed: tuple[list[float], tuple[torch.Tensor, ...]] = [], ()
        self._tables = [torch.zeros(MOST, dtype=torch.float64, device=device) for device in devices]
        self._before: list[dict[str, Any]] = []
        self._rule_before: dict[str, Any] | None = None

    def is_current(self) -> bool:
        """Whether the optimizer still has the schedule that it had."""
        return self._optimizer.step_schedule is self._rule

    def advance(self, steps: int) -> tuple[torch.Tensor, ...]:
        """The rates of the next steps for each of the parameter groups, on its device.

        Returns:
            A float64 scalar a group where rates stay as they are, else a vector of length
            :data:`MOST` whose first ``steps`` entries count.

        Raises:
            OptimError: the schedule fails, or changes other options than the rate; all is as before then.
        """
        if self._is_fixed:
            now = [float(group["lr"]) for group in self._groups]
            if now != self._fixed[0]:
                pairs = zip(now, self._devices, strict=True)
                rates = [torch.tensor(rate, dtype=torch.float64, device=device) for rate, device in pairs]
                self._fixed = now, tuple(rates)
            return self._fixed[1]
        self._before = [_options(group) for group in self._all_groups]
        self._rule_before = None if self._rule is None else self._rule.state_dict()
        rows = [[0.0] * steps for _ in self._groups]
        try:
            for step in range(steps):
                self._step(rows, step)
            self._check_others()
        except Exception as error:
            self.rewind()
            if isinstance(error, OptimError):
                raise
            raise OptimError(
                f"optimizer '{self._optimizer.name}': expected a schedule that gives the rates of {steps} "
                f"steps, got {type(error).__name__}: {error}; run with compile=False"
            ) from error
        for table, row in zip(self._tables, rows, strict=True):
            table[:steps] = torch.tensor(row, dtype=torch.float64)
        return tuple(self._tables)

    def _step(self, rows: list[list[float]], step: int) -> None:
        if self._decays:
            for group in self._all_groups:
                group["lr"] *= group["lrd"]
        for row, group in zip(rows, self._groups, strict=True):
            row[step] = float(group["lr"])
        if self._rule is not None:
            self._rule.step()

    def _check_others(self) -> None:
        """Refuse a schedule of momenta: the graph holds them as they were."""
        changed = {
            key
            for group, before in zip(self._all_groups, self._before, strict=True)
            for key in before.keys() - {"lr"}
            if group[key] != before[key]
        }
        if changed:
            raise OptimError(
                f"optimizer '{self._optimizer.name}': expected a schedule of the learning rate alone, got "
                f"{type(self._rule).__name__}, which changes {sorted(changed)} too; run with compile=False, "
                "or give the schedule cycle_momentum=False"
            )

    def rewind(self) -> None:
        """Put rates and schedule back to where they were."""
        for group, options in zip(self._all_groups, self._before, strict=False):
            group.update(options)
        if self._rule is not None and self._rule_before is not None:
            self._rule.load_state_dict(self._rule_before)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}
