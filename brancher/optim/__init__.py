"""Optimizers: every class of ``torch.optim`` and every schedule by its torch name, and Pyro's own.

Example:
    >>> from brancher import optim
    >>> optim.Adam({"lr": 0.01}), optim.RMSprop(lr=0.01), optim.ClippedAdam({"lr": 0.01, "lrd": 0.999})
    (Optimizer(Adam), Optimizer(RMSprop), Optimizer(ClippedAdam))
"""

from __future__ import annotations

from typing import Any

from brancher.optim.accept import as_optimizer
from brancher.optim.named import OPTIMIZERS, SCHEDULES, ScheduledOptimizer, by_name
from brancher.optim.optimizer import Optimizer

#: Pyro's names.
PyroOptim, PyroLRScheduler = Optimizer, ScheduledOptimizer

__all__ = ["Optimizer", "PyroLRScheduler", "PyroOptim", "ScheduledOptimizer", "as_optimizer"]
__all__.extend(name for name in (*OPTIMIZERS, *SCHEDULES) if name not in __all__)


def __getattr__(name: str) -> Any:
    return by_name(name)


def __dir__() -> list[str]:
    return sorted(__all__)
