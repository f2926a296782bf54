"""The bridge to `driver.cpp`: its job, field by field, and the call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from brancher.staging import driver

_SOURCE = Path(__file__).with_name("driver.cpp")
SCALARS = {torch.float32: "float", torch.float64: "double"}


class Job(ctypes.Structure):
    """Mirror of ``struct Job`` in driver.cpp."""

    _fields_ = (
        ("entry", ctypes.c_void_p),
        ("inputs", ctypes.POINTER(driver.Described)),
        ("input_count", ctypes.c_int64),
        ("fields", ctypes.POINTER(ctypes.c_void_p)),
        ("inverse", ctypes.c_void_p),
        ("root", ctypes.c_void_p),
        ("schedule", ctypes.c_void_p),
        ("trajectory", ctypes.c_double),
        ("draws", ctypes.c_void_p),
        ("grads", ctypes.c_void_p),
        ("stats", ctypes.c_void_p),
        ("target", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("chains", "dim", "max_depth", "dense", "adapting")),
        *((name, ctypes.c_int64) for name in ("limit", "budget", "rows", "base")),
    )


def load(kernel: str, dtype: torch.dtype) -> ctypes.CDLL:
    """Return the driver of a kernel (``"Nuts"`` or ``"Hmc"``) for a floating type, building it if need be."""
    defines = (f"BRANCHER_KERNEL={kernel}", f"BRANCHER_SCALAR={SCALARS[dtype]}")
    library = driver.build(_SOURCE, defines)
    library.brancher_run.restype = ctypes.c_int64
    library.brancher_run.argtypes = [ctypes.POINTER(Job)]
    return library


def pointers(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    """Return the addresses of contiguous tensors, which must outlive them."""
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
