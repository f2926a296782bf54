"""Gradients cut to size, a tensor at a time as in Pyro."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from brancher.errors import OptimError, OptimTypeError
from brancher.optim.sources import options_for

ClipArgs: TypeAlias = Mapping[str, float] | Callable[..., Mapping[str, float]] | None


def check_clip_args(clip_args: Any) -> None:
    """Refuse anything but ``clip_norm`` and ``clip_value`` with positive numbers."""
    if clip_args is None or callable(clip_args):
        return
    if not isinstance(clip_args, Mapping):
        raise OptimTypeError(
            f"optimizer: expected clip_args as a dict, got {type(clip_args).__name__}; "
            "write clip_args={'clip_norm': 10.0}"
        )
    for key, value in clip_args.items():
        is_number = isinstance(value, (int, float)) and value > 0
        if key not in ("clip_norm", "clip_value") or not is_number:
            raise OptimError(
                f"optimizer: expected clip_args with 'clip_norm' or 'clip_value' > 0, got "
                f"{{{key!r}: {value!r}}}; write clip_args={{'clip_norm': 10.0}}"
            )


def clip(leaves: Mapping[str, torch.Tensor], clip_args: ClipArgs) -> None:
    """Replace each gradient that is too long (``clip_norm``) or has too large entries (``clip_value``)."""
    if clip_args is None:
        return
    for name, leaf in leaves.items():
        if leaf.grad is None:
            continue
        limits = options_for(clip_args, name, "clip_args")
        check_clip_args(limits)
        leaf.grad = clipped(leaf.grad, limits.get("clip_norm"), limits.get("clip_value"))


def clipped(grad: torch.Tensor, norm: float | None = None, value: float | None = None) -> torch.Tensor:
    """Return a gradient of at most this norm, with entries of at most this size."""
    # Not in place: two leaves may share one gradient, and a gradient may be an expanded view.
    if norm is not None:
        factor = norm / (torch.linalg.vector_norm(grad) + 1e-6)
        grad = grad * factor.clamp(max=1.0)
    return grad if value is None else grad.clamp(-value, value)
