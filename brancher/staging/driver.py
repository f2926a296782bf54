"""Hand-written C++ that calls a compiled function: built once a machine, and bound by address.

For loops that hold decisions which tensors express badly. The C++ gets the function as a pointer
``void (*)(AtenTensorHandle* inputs, AtenTensorHandle* outputs)``, which takes its inputs over and gives new
tensors, and descriptions of the tensors to call it with (`Described`).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

import torch

from brancher.staging import cache
from brancher.staging.compiled import _machine
from brancher.staging.emitting import native
from brancher.staging.plan import Plan

Tensor = torch.Tensor

_ENTRY = "_Z19inductor_entry_implPP16AtenTensorOpaqueS1_"
_DTYPES = {  # torch's own numbers for its types, part of its stable C interface
    torch.uint8: 0,
    torch.int8: 1,
    torch.int16: 2,
    torch.int32: 3,
    torch.int64: 4,
    torch.float16: 5,
    torch.float32: 6,
    torch.float64: 7,
    torch.bool: 11,
    torch.bfloat16: 15,
}


class Described(ctypes.Structure):
    """A tensor as C++ sees it: data, rank, sizes, strides, torch's number of its type."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("ndim", ctypes.c_int64),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("dtype", ctypes.c_int32),
    )


def describe(tensors: Sequence[Tensor]) -> ctypes.Array[Described]:
    """Describe tensors; they must outlive every use of the description."""
    rows = (Described * len(tensors))()
    for row, tensor in zip(rows, tensors, strict=True):
        numbers = ctypes.c_int64 * max(tensor.dim(), 1)
        row.data = tensor.data_ptr()
        row.ndim = tensor.dim()
        row.sizes = numbers(*tensor.shape)
        row.strides = numbers(*tensor.stride())
        row.dtype = _DTYPES[tensor.dtype]
    return rows


def entry_point(plan: Plan, tensors: Sequence[Tensor]) -> int | None:
    """Return the address of a compiled function, or None where C++ can not call it.

    ``tensors`` are the ones that the function will be called with, the captured ones included.
    """
    library = plan.compiled.library
    plain = all(t.device.type == "cpu" and t.dtype in _DTYPES for t in tensors)
    if library is None or not plain or plan.compiled.writes:
        return None
    return ctypes.cast(getattr(ctypes.CDLL(str(library)), _ENTRY), ctypes.c_void_p).value


@functools.cache
def build(source: Path, defines: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Compile a C++ file against torch's C interface, or load it where this machine has compiled it before.

    Raises:
        RuntimeError: no C++ compiler.
        subprocess.CalledProcessError: the compiler failed.
    """
    compiler = native.compiler()
    if compiler is None:
        raise RuntimeError("no C++ compiler was found")
    folder = Path(torch.__file__).parent / "lib"
    command = [
        *(compiler, "-O2", "-march=native", "-std=c++17", "-fPIC", "-shared", "-fno-math-errno"),
        *(f"-D{define}" for define in defines),
        *(f"-L{folder}", "-ltorch_cpu", f"-Wl,-rpath,{folder}"),
    ]
    key = cache.digest("driver", source.read_text(), repr(command), _machine())
    known = cache.load(key)
    if known is not None:
        return ctypes.CDLL(str(known[0]))
    target = cache.scratch() / f"{key}.so"
    native.build(command, source, target)
    if target.parent == cache.directory():
        cache.store(key, target.parent, {})
    return ctypes.CDLL(str(target))
