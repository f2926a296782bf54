"""What may be given where an optimizer is expected."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer as TorchOptimizer

from brancher.errors import OptimTypeError
from brancher.optim.named import OptimizerClass, ScheduledOptimizer, torch_class
from brancher.optim.optimizer import Optimizer

# Larger than torch's own 1e-3: variational parameters begin far from where they end.
DEFAULT_LR = 0.01


def as_optimizer(optimizer: Any) -> Optimizer:
    """Turn whatever names an optimizer into one.

    Args:
        optimizer: an :class:`Optimizer` or :class:`ScheduledOptimizer`; a torch optimizer class,
            instance or name; a function from a list of tensors to an instance; None for Adam
            with a learning rate of 0.01.

    Raises:
        OptimTypeError: it is something else.

    Example:
        >>> as_optimizer("SGD"), as_optimizer(torch.optim.Adam), as_optimizer(None)
        (Optimizer(SGD), Optimizer(Adam), Optimizer(Adam))
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, ScheduledOptimizer):
        return optimizer.optimizer
    if optimizer is None:
        return Optimizer(torch.optim.Adam, {"lr": DEFAULT_LR})
    if hasattr(optimizer, "differentiable_loss"):
        raise OptimTypeError(
            f"optimizer: expected an optimizer, got the loss {type(optimizer).__name__}; write "
            "SVI(model, guide, optim, loss)"
        )
    if isinstance(optimizer, (str, OptimizerClass)) or _is_class(optimizer):
        return Optimizer(torch_class(optimizer))
    if isinstance(optimizer, TorchOptimizer) or _is_function(optimizer):
        return Optimizer(optimizer)
    got = optimizer.__name__ if isinstance(optimizer, type) else type(optimizer).__name__
    raise OptimTypeError(
        f"optimizer: expected optimizer as one of brancher.optim, a torch optimizer class, instance, name or "
        f"factory, got {got}; write for example brancher.optim.Adam({{'lr': 0.01}})"
    )


def _is_class(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, TorchOptimizer)


def _is_function(kind: Any) -> bool:
    return callable(kind) and not isinstance(kind, (type, torch.nn.Module, torch.Tensor))
