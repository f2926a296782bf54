"""Torch's optimizers without what does not concern eager steps.

For a few small tensors the profiler's range, the switches of gradient mode and the sorting by device cost
several times what Adam's fused kernel does; and Dynamo, which torch's methods import to switch it off, costs
a second of every new process.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any, TypeAlias

import torch
from torch.optim import Optimizer as TorchOptimizer
from torch.optim import optimizer as registry

Tensor = torch.Tensor
#: Parameters, gradients, means, mean squares, step counts.
Lists: TypeAlias = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]

_FAMILIES = (torch.optim.Adam, torch.optim.AdamW)
_SET_BY_OTHERS = ("step", "grad_scale", "found_inf")
#: Where torch keeps the form of a function that Dynamo does not look into.
_DISABLED = "__dynamo_disable"
_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_HOOKS_OF_ALL = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")


def leave_dynamo_out() -> None:
    """Let optimizers import Dynamo only where something else has: before, it has nothing to switch off."""
    for name in ("add_param_group", "state_dict", "load_state_dict"):
        fn: Any = getattr(getattr(TorchOptimizer, name), "__wrapped__", None)
        if fn is not None and not hasattr(fn, _DISABLED):
            setattr(fn, _DISABLED, functools.partial(_call, fn))


def _call(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    if "torch._dynamo" not in sys.modules:
        return fn(*args, **kwargs)
    # Another thread may be importing it: this waits for the end of that.
    disabled = importlib.import_module("torch._dynamo").disable(fn, wrapping=False)
    setattr(fn, _DISABLED, disabled)
    return disabled(*args, **kwargs)


def step(optimizer: TorchOptimizer) -> None:
    """Take one step: by the kernel where a step is nothing else, by torch's method otherwise."""
    if type(optimizer) in _FAMILIES and run_kernel(optimizer):
        return
    _lay_out(optimizer)
    uneven = [group for group in optimizer.param_groups if _is_uneven(optimizer, group)]
    try:
        for group in uneven:
            group["fused"] = False
        optimizer.step()
    finally:
        for group in uneven:
            group["fused"] = True


def run_kernel(optimizer: TorchOptimizer) -> bool:
    """Take one step of Adam or AdamW by the kernel; false, and none taken, where torch's method does more."""
    found = _lists_of(optimizer)
    if found is None:
        return False
    with torch.no_grad():
        for group, lists in zip(optimizer.param_groups, found, strict=True):
            if lists[0]:
                _run(group, lists)
    return True


def _lists_of(optimizer: TorchOptimizer) -> list[Lists] | None:
    """What the kernel needs, group by group; None where torch's method does more than call it."""
    # A schedule puts a step on the instance that counts calls, a gradient scaler the other two.
    if not vars(optimizer).keys().isdisjoint(_SET_BY_OTHERS):
        return None
    for name, other in zip(_HOOKS, _HOOKS_OF_ALL, strict=True):
        if getattr(optimizer, name, True) or getattr(registry, other, True):
            return None
    found = []
    for group in optimizer.param_groups:
        if not group["fused"] or group["amsgrad"] or group["capturable"] or type(group["lr"]) is not float:
            return None
        lists = _lists(optimizer, group)
        if lists is None:
            return None
        found.append(lists)
    return found


def _lists(optimizer: TorchOptimizer, group: dict[str, Any]) -> Lists | None:
    lists: Lists = ([], [], [], [], [])
    params, grads, means, squares, steps = lists
    state, leaves = optimizer.state, group["params"]
    for leaf in leaves:
        grad = leaf.grad
        if grad is None:
            continue
        if leaf.dtype is not leaves[0].dtype or leaf.device.type != "cpu":
            return None
        own = state.get(leaf)
        if not own:
            optimizer._init_group(group, [], [], [], [], [], [])  # type: ignore[attr-defined]
            own = state[leaf]
        params.append(leaf)
        grads.append(grad if grad.is_contiguous() else grad.contiguous())
        means.append(own["exp_avg"])
        squares.append(own["exp_avg_sq"])
        steps.append(own["step"])
    return lists


def _run(group: dict[str, Any], lists: Lists) -> None:
    params, grads, means, squares, steps = lists
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    beta1, beta2 = map(float, group["betas"])
    torch._foreach_add_(steps, 1)
    kernel(
        params,
        grads,
        means,
        squares,
        [],
        steps,
        amsgrad=False,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
    )


def _is_uneven(optimizer: TorchOptimizer, group: dict[str, Any]) -> bool:
    """Whether leaves with and without a momentum meet, which the fused SGD of torch 2.13 refuses."""
    if not isinstance(optimizer, torch.optim.SGD) or not group["fused"] or not group["momentum"]:
        return False
    moved = [leaf for leaf in group["params"] if leaf.grad is not None]
    with_momentum = [optimizer.state.get(leaf, {}).get("momentum_buffer") is not None for leaf in moved]
    return any(with_momentum) and not all(with_momentum)


def _lay_out(optimizer: TorchOptimizer) -> None:
    """Make gradients contiguous for the fused kernels.

    Those of torch 2.13 on the CPU read the memory behind a gradient without regard to its
    strides, so an expanded one (what ``sum`` gives) would be read beyond its end.
    """
    for group in optimizer.param_groups:
        if group.get("fused"):
            for leaf in group["params"]:
                if leaf.grad is not None and not leaf.grad.is_contiguous():
                    leaf.grad = leaf.grad.contiguous()
