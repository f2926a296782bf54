"""Tests and sums of numbers, under Pyro's names."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, logsumexp
from torch.distributions.utils import broadcast_all

from brancher.distributions.shapes import broadcast, sum_rightmost
from brancher.errors import BrancherWarning

__all__ = [
    "broadcast_all",
    "broadcast_shape",
    "eye_like",
    "is_identically_one",
    "is_identically_zero",
    "logsumexp",
    "scalar_like",
    "scale_and_mask",
    "sum_leftmost",
    "sum_rightmost",
    "torch_backward",
    "torch_exp",
    "torch_float",
    "torch_isinf",
    "torch_isnan",
    "torch_item",
    "torch_sum",
    "warn_if_inf",
    "warn_if_nan",
    "zero_grads",
]


def torch_item(x: Tensor | float) -> float:
    """Python's number for a number or a tensor of one element."""
    return x if isinstance(x, (int, float)) else x.item()


def torch_float(x: Tensor | float) -> Any:
    """A float of the same kind."""
    return x.float() if isinstance(x, Tensor) else float(x)


def torch_exp(x: Tensor | float) -> Any:
    """The exponential, of the same kind."""
    return x.exp() if isinstance(x, Tensor) else math.exp(x)


def torch_sum(tensor: Tensor, dims: Any) -> Tensor:
    """The sum over dimensions; the tensor itself for none."""
    return tensor.sum(dims) if dims else tensor


def torch_backward(x: Any, retain_graph: bool | None = None) -> None:
    """Backpropagate from a tensor that has a graph; do nothing for a number."""
    if isinstance(x, Tensor) and x.requires_grad:
        x.backward(retain_graph=retain_graph)


def torch_isnan(x: Tensor | float) -> bool:
    """Whether any entry is NaN."""
    return bool(torch.isnan(torch.as_tensor(x)).any())


def torch_isinf(x: Tensor | float) -> bool:
    """Whether any entry is infinite."""
    return bool(torch.isinf(torch.as_tensor(x)).any())


def warn_if_nan(value: Any, msg: str = "") -> Any:
    """Warn where an entry is NaN, now or in the gradient, and return the value."""
    if isinstance(value, Tensor) and value.requires_grad:
        value.register_hook(lambda gradient: warn_if_nan(gradient, f"backward {msg}"))
    if torch_isnan(value):
        warnings.warn(f"{msg}: expected numbers, got NaN", BrancherWarning, stacklevel=2)
    return value


def warn_if_inf(value: Any, msg: str = "", allow_posinf: bool = False, allow_neginf: bool = False) -> Any:
    """Warn where an entry is infinite with a sign that is not allowed, now or in the gradient."""
    if isinstance(value, Tensor) and value.requires_grad:
        value.register_hook(
            lambda gradient: warn_if_inf(gradient, f"backward {msg}", allow_posinf, allow_neginf)
        )
    entries = torch.as_tensor(value)
    for sign, is_allowed in ((math.inf, allow_posinf), (-math.inf, allow_neginf)):
        if not is_allowed and bool((entries == sign).any()):
            warnings.warn(f"{msg}: expected finite numbers, got {sign}", BrancherWarning, stacklevel=2)
    return value


def zero_grads(tensors: Iterable[Tensor]) -> None:
    """Set the gradients that are there to zero."""
    for tensor in tensors:
        if tensor.grad is not None:
            tensor.grad = torch.zeros_like(tensor)


def is_identically_zero(x: Any) -> bool:
    """Whether a Python number is zero, or a constant tensor of one element is."""
    return _is_constant(x, 0)


def is_identically_one(x: Any) -> bool:
    """Whether a Python number is one, or a constant tensor of one element is."""
    return _is_constant(x, 1)


def _is_constant(x: Any, number: int) -> bool:
    if isinstance(x, Tensor):
        return x.numel() == 1 and not x.requires_grad and x.item() == number
    return isinstance(x, (int, float)) and x == number


def broadcast_shape(*shapes: Iterable[int], strict: bool = False) -> tuple[int, ...]:
    """The shape that all shapes broadcast to.

    Args:
        *shapes: the shapes.
        strict: sizes of 1 do not broadcast.

    Raises:
        DistributionError: they do not fit.

    Example:
        >>> broadcast_shape((3, 1), (2,))
        (3, 2)
    """
    listed = [tuple(shape) for shape in shapes]
    if not strict:
        return tuple(broadcast("shape", *listed))
    # A size that is no size stands for 1, so that it meets nothing but itself.
    return tuple(1 if size == -1 else size for size in broadcast("shape", *map(_without_ones, listed)))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-1 if size == 1 else size for size in shape)


def sum_leftmost(value: Any, dim: int) -> Any:
    """The sum over the ``dim`` leftmost dimensions; a negative one leaves the ``-dim`` rightmost."""
    if not isinstance(value, Tensor):
        return value
    count = value.dim() + dim if dim < 0 else dim
    return value.sum(tuple(range(count))) if count > 0 else value


def scale_and_mask(tensor: Any, scale: Any = 1.0, mask: Any = None) -> Any:
    """A log density times its scale, zero where the mask is false."""
    scaled = tensor * scale
    if mask is None or mask is True:
        return scaled
    if mask is False:
        return torch.zeros_like(torch.as_tensor(scaled))
    return torch.where(mask, scaled, scaled.new_zeros(()))


def scalar_like(prototype: Tensor, fill_value: float) -> Tensor:
    """A scalar of the same dtype and device."""
    return torch.full((), fill_value, dtype=prototype.dtype, device=prototype.device)


def eye_like(value: Tensor, m: int, n: int | None = None) -> Tensor:
    """An identity matrix of the same dtype and device."""
    return torch.eye(m, m if n is None else n, dtype=value.dtype, device=value.device)
