"""Gradients of a loss, made here or by a function that the user gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from brancher.errors import InferenceTypeError
from brancher.infer.observer import Observer
from brancher.params import current_store

Fn = Callable[..., Any]


def as_loss(role: str, value: Any) -> torch.Tensor:
    """Take a loss as a real tensor of shape ``()``.

    Args:
        role: the function that returned it, for the message.
        value: what it returned.

    Raises:
        InferenceTypeError: it is something else.
    """
    is_tensor = isinstance(value, torch.Tensor)
    if is_tensor and value.numel() == 1 and value.is_floating_point():
        return value.reshape(())  # type: ignore[no-any-return]
    got = f"a {value.dtype} tensor of shape {tuple(value.shape)}" if is_tensor else f"{value!r}"
    raise InferenceTypeError(
        f"SVI: expected {role} to return a real scalar tensor, got {got}; return a tensor of shape (), such "
        "as Trace_ELBO().differentiable_loss(model, guide, *args)"
    )


def gradients(
    surrogate: torch.Tensor, params: dict[str, torch.Tensor], so_far: list[torch.Tensor | None]
) -> list[torch.Tensor | None]:
    """Add the gradient of ``surrogate`` to those so far; None for a parameter it does not depend on."""
    leaves = list(params.values())
    if not leaves or not surrogate.requires_grad:
        return so_far or [None] * len(leaves)
    grads: list[torch.Tensor | None] = list(torch.autograd.grad(surrogate, leaves, allow_unused=True))
    for i, before in enumerate(so_far):
        now = grads[i]
        if before is not None:
            grads[i] = before if now is None else before + now
    return grads


def taken(
    fn: Fn, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Observer, torch.Tensor, list[torch.Tensor | None]]:
    """Run a function that adds gradients to the leaves, and take them from there.

    Every leaf's own ``.grad`` is as before, whether the function returns or raises.
    """
    kept = {id(leaf): leaf.grad for leaf in current_store().unconstrained().values()}
    for leaf in current_store().unconstrained().values():
        leaf.grad = None
    seen = Observer()
    try:
        with seen:
            value = fn(model, guide, *args, **kwargs)
        loss = torch.tensor(value) if isinstance(value, float) else as_loss("loss_and_grads", value).detach()
        return seen, loss, [leaf.grad for leaf in seen.params.values()]
    finally:
        for leaf in (*seen.params.values(), *current_store().unconstrained().values()):
            leaf.grad = kept.get(id(leaf))
