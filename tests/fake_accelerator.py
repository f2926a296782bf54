"""A second device with real values on a CPU-only build of torch.

A tensor on the fake device wraps a CPU tensor and says that it lives on "lazy", a device type for
which CPU builds know a guard. Each operation checks that its tensors live on one device, as CUDA
does (a CPU tensor of dimension 0 may join in, CPU indices may index), and then runs on the CPU. So
a forgotten ``device=`` raises here as it would on an accelerator; about 200 us an operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

DEVICE = torch.device("lazy", 0)

aten = torch.ops.aten
_MOVES = {
    aten._to_copy.default,
    aten.copy_.default,
    aten._copy_from.default,
    aten.lift_fresh.default,
}
_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}


class FakeDeviceTensor(torch.Tensor):
    """A CPU tensor that says it lives on the fake device."""

    _elem: torch.Tensor

    @staticmethod
    def __new__(cls, elem: torch.Tensor) -> FakeDeviceTensor:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=DEVICE,
        )

    def __init__(self, elem: torch.Tensor) -> None:
        self._elem = elem

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"FakeDeviceTensor({self._elem}, device='{DEVICE}')"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class FakeDeviceMode(TorchDispatchMode):
    """Lets factory functions and ``.to`` reach the fake device while it is active."""

    def __enter__(self) -> FakeDeviceMode:
        # Without it torch.tensor(..., device="lazy") asks the real backend, which is not built.
        self._lifts_only_cpu = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lifts_only_cpu)
        super().__exit__(*exc)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


def _is_fake(value: Any) -> bool:
    return isinstance(value, FakeDeviceTensor)


def _names_fake(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _check_one_device(func: Callable[..., Any], args: Any, leaves: list[Any]) -> None:
    """Raise what an accelerator raises when operands of one operation live apart."""
    if func in _INDEXING:
        # Indices may stay on the CPU; the indexed tensor and the values put into it may not differ.
        target, *values = (args[0], *args[2:3])
        apart = [
            v for v in values if isinstance(v, torch.Tensor) and v.dim() and _is_fake(v) != _is_fake(target)
        ]
        mixed = bool(apart) or not _is_fake(target)
    else:
        mixed = any(isinstance(a, torch.Tensor) and not _is_fake(a) and a.dim() > 0 for a in leaves)
    if mixed:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{DEVICE} and cpu! (in {func})"
        )


def _lands_on_fake(func: Callable[..., Any], args: Any, kwargs: dict[str, Any], has_fakes: bool) -> bool:
    if kwargs.get("device") is not None:
        return _names_fake(kwargs["device"])
    return _is_fake(args[0]) if func is aten.copy_.default else has_fakes


def _dispatch(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    leaves, spec = tree_flatten((args, kwargs))
    has_fakes = any(_is_fake(leaf) for leaf in leaves)
    if has_fakes and func not in _MOVES:
        _check_one_device(func, args, leaves)
    to_fake = _lands_on_fake(func, args, kwargs, has_fakes)
    if (has_fakes or to_fake) and isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError(f"Expected a '{DEVICE.type}' device type for generator but found 'cpu'")

    raw = [_to_cpu(leaf) for leaf in leaves]
    wrapped = {id(r): leaf for r, leaf in zip(raw, leaves, strict=True) if _is_fake(leaf)}
    cpu_args, cpu_kwargs = tree_unflatten(raw, spec)
    out = func(*cpu_args, **cpu_kwargs)
    if not to_fake:
        return out
    # An in-place operation returns its own argument: hand back the same wrapper.
    out = tree_map_only(
        torch.Tensor, lambda t: wrapped[id(t)] if id(t) in wrapped else FakeDeviceTensor(t), out
    )
    return return_and_correct_aliasing(func, args, kwargs, out) if has_fakes else out


def _to_cpu(leaf: Any) -> Any:
    if isinstance(leaf, FakeDeviceTensor):
        return leaf._elem
    return torch.device("cpu") if isinstance(leaf, torch.device) and _names_fake(leaf) else leaf
