"""Why a function could not be staged, in the user's terms: which file and line, and what to write instead."""

from __future__ import annotations

import linecache
import os
import subprocess
from pathlib import Path
from types import TracebackType

import torch

from brancher.errors import BrancherError

_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_TORCH = str(Path(torch.__file__).resolve().parent) + os.sep

# Matched against class name and text of what torch raised: its exception classes are private and move.
_KINDS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("DynamicOutputShape", "aten.nonzero", "aten.masked_select", "aten.unique"),
        "a shape that depends on a tensor's value",
        "keep the full shape and mask with torch.where(mask, a, b) or a weight of zeros and ones",
    ),
    (
        (
            *("DataDependent", "value out of a tracing tensor", "_local_scalar_dense", "unbacked"),
            *("is_nonzero", "(got SymInt)", "non-nested SymInt"),
        ),
        "Python that depends on a tensor's value",
        "write `if` as torch.where(cond, a, b), keep numbers as tensors (no float(), int(), .item(), bool())",
    ),
    (
        ("numpy() is not supported", "with FakeTensor", "data_ptr", "tolist() is not supported"),
        "a tensor's memory",
        "stay with torch operations (no .numpy(), .tolist(), .data_ptr())",
    ),
)


class StagingError(BrancherError, RuntimeError):
    """A function can not be staged.

    Attributes:
        reason: ``"data"`` (needs a tensor's value), ``"arguments"`` (an argument that is neither tensor nor
            hashable, or a loop's carry that changes), ``"seed"`` (sets the seed inside, or draws random
            numbers that are not torch's), ``"trace"`` (anything else raised while tracing),
            ``"compiler"`` (none on this machine, or it failed).
        filename: the user's file where it happened, or None.
        lineno: the line in that file, or None.
    """

    def __init__(
        self, text: str, *, reason: str, filename: str | None = None, lineno: int | None = None
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.filename = filename
        self.lineno = lineno


def user_frame(traceback: TracebackType | None) -> tuple[str, int] | None:
    """Return file and line of the innermost frame that is neither torch's nor this package's."""
    found: tuple[str, int] | None = None
    while traceback is not None:
        path = Path(traceback.tb_frame.f_code.co_filename)
        name = str(path.absolute())
        if not name.startswith((_PACKAGE, _TORCH)) and path.exists():
            found = name, traceback.tb_lineno
        traceback = traceback.tb_next
    return found


def explain(error: BaseException, name: str) -> StagingError:
    """Turn what torch raised while tracing into a `StagingError` that names the user's line."""
    frame = user_frame(error.__traceback__)
    where = ""
    if frame is not None:
        line = linecache.getline(*frame).strip()
        where = f" at {frame[0]}:{frame[1]}" + (f" (`{line}`)" if line else "")
    filename, lineno = frame if frame is not None else (None, None)
    text = f"{type(error).__name__}: {error}"
    for signs, got, advice in _KINDS:
        if any(sign in text for sign in signs):
            return StagingError(
                f"staged function '{name}': expected tensor operations only, got {got}{where}; {advice}.",
                reason="data",
                filename=filename,
                lineno=lineno,
            )
    summary = text.splitlines()[0][:300]
    return StagingError(
        f"staged function '{name}': expected a function that traces, got {summary}{where}; "
        "run it eagerly to see more.",
        reason="trace",
        filename=filename,
        lineno=lineno,
    )


def refuse_odd(tensor: torch.Tensor, path: str) -> None:
    """Refuse a tensor that a compiled graph would misread: it takes numbers as they lie in memory.

    Raises:
        StagingError: the tensor is sparse, quantized or nested, or negates or conjugates what is read.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        kind = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else str(tensor.layout)
        got, advice = f"a {kind.removeprefix('torch.')} one", "give it as .to_dense()"
    elif tensor.is_neg():
        got, advice = "a view that negates when it is read", "give it as .resolve_neg()"
    elif tensor.is_conj():
        got, advice = "a view that conjugates when it is read", "give it as .resolve_conj()"
    else:
        return
    raise StagingError(
        f"{path}: expected a dense tensor with its numbers as they lie in memory, got {got}; {advice}.",
        reason="arguments",
    )


def no_compiler(name: str) -> StagingError:
    """Say that this machine has no C++ compiler."""
    return StagingError(
        f"staged function '{name}': expected a C++ compiler, got none on this machine; "
        "install g++ or clang++, or set CXX.",
        reason="compiler",
    )


def compiler_failed(name: str, error: BaseException, moved: list[str]) -> StagingError:
    """Say what the compiler said, or which names this torch has moved."""
    if moved:
        return StagingError(
            f"staged function '{name}': expected {', '.join(moved)} in torch, got torch {torch.__version__} "
            "without; use a torch version that this package supports.",
            reason="compiler",
        )
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    line = next((part for part in str(said).splitlines() if part.strip()), type(error).__name__)
    return StagingError(
        f"staged function '{name}': expected a graph that compiles, got {line[:300]}; "
        "report it with this text.",
        reason="compiler",
    )
