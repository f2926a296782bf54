"""Tensors by name in one file, without pickle: reading never runs code.

The layout is that of safetensors: eight bytes with the header's length, a JSON header, raw
little-endian bytes. Beside the tensors it holds JSON of the caller's and a checksum of all.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from brancher.errors import FileFormatError, FileTypeError, MissingFileError, ParamError
from brancher.params.flatten import flatten_state, unflatten_state

_FORMAT = "brancher/1"
_META = "__metadata__"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "C64": torch.complex64,
    "C128": torch.complex128,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_WORDS = {dtype: word for word, dtype in _DTYPES.items()}


def save_state(path: str | os.PathLike[str], kind: str, state: Any) -> None:
    """Write a nested structure of tensors, numbers and text; see ``flatten_state``.

    Args:
        path: file to write; one that is there is replaced once the new one is whole.
        kind: what the file holds, compared by ``load_state``.
        state: dictionaries, lists and tuples of tensors and scalars.
    """
    tensors, structure = flatten_state(state)
    save_tensors(path, tensors, {"kind": kind, "structure": structure})


def load_state(path: str | os.PathLike[str], kind: str) -> Any:
    """Read what ``save_state`` wrote.

    Raises:
        FileFormatError: the file is damaged, or holds something else than ``kind``.
        MissingFileError: there is no such file.
    """
    tensors, meta = load_tensors(path)
    found = meta.get("kind") if isinstance(meta, dict) else None
    if found != kind:
        raise FileFormatError(
            f"file '{_text(path)}': expected one that holds '{kind}', got '{found}'; use another"
        )
    try:
        return unflatten_state(tensors, meta["structure"])
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(path, f"a structure that does not fit its tensors ({error})") from error


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], meta: Any = None) -> None:
    """Write tensors and JSON to one file; a file that is there is replaced once the new one is whole.

    Args:
        path: file to write.
        tensors: dense tensors by name; any text is a name.
        meta: anything that JSON holds.

    Raises:
        MissingFileError: the directory does not exist.
        FileFormatError: the file can not be written.
        ParamError: a tensor is sparse, quantized or on the meta device.

    Example:
        >>> path = getfixture("tmp_path") / "weights.brancher"
        >>> save_tensors(path, {"w": torch.ones(2)}, {"steps": 3})
        >>> load_tensors(path)
        ({'w': tensor([1., 1.])}, {'steps': 3})
    """
    table: dict[str, Any] = {}
    chunks: list[bytes] = []
    end = 0
    for name, tensor in tensors.items():
        raw = _to_bytes(name, tensor)
        begin, end = end, end + len(raw)
        table[_escape(name)] = {
            "dtype": _WORDS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        chunks.append(raw)
    # safetensors allows text only as metadata.
    notes = {"format": _FORMAT, "meta": json.dumps(meta)}
    header = json.dumps({_META: {**notes, "crc32": _checksum(notes, table, chunks)}, **table}).encode()
    header += b" " * (-len(header) % 8)
    _replace(path, [len(header).to_bytes(8, "little"), header, *chunks])


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], Any]:
    """Read what ``save_tensors`` wrote.

    Returns:
        Tensors by name, on the CPU, and the JSON beside them.

    Raises:
        FileFormatError: the file is damaged, truncated or of another kind.
        MissingFileError: there is no such file.
    """
    content = _read(path)
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise _damaged(path, f"{len(content)} bytes that do not begin with a header")
    body = memoryview(content)[8 + length :]
    try:
        table = json.loads(content[8 : 8 + length])
        notes = table.pop(_META)
        crc32 = notes.pop("crc32")
        if notes["format"] != _FORMAT:
            raise _damaged(path, f"the format '{notes['format']}'")
        if crc32 != _checksum(notes, table, [body]):
            raise _damaged(path, "a checksum that does not match")
        tensors = {_unescape(name): _from_bytes(body, entry) for name, entry in table.items()}
        return tensors, json.loads(notes["meta"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise _damaged(path, f"a header that can not be read ({type(error).__name__})") from error


def _to_bytes(name: str, tensor: torch.Tensor) -> bytes:
    strange = tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta
    if strange or tensor.dtype not in _WORDS:
        raise ParamError(
            f"tensor '{name}': expected a dense tensor with data, got {tensor.dtype} of layout "
            f"{tensor.layout} on {tensor.device}; convert it before saving"
        )
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    raw = flat.view(torch.uint8)
    return bytes(_little_endian(raw, flat.dtype).numpy().data)


def _from_bytes(body: memoryview, entry: Mapping[str, Any]) -> torch.Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    # The copy is aligned and writable; a view into the file's bytes need be neither.
    raw = torch.frombuffer(bytearray(body[begin:end]), dtype=torch.uint8)
    return _little_endian(raw, dtype).view(dtype).reshape(shape)


def _little_endian(raw: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if sys.byteorder == "little":
        return raw
    part = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    return raw.reshape(-1, part).flip(1).reshape(-1)


def _checksum(notes: Mapping[str, str], table: Mapping[str, Any], chunks: list[Any]) -> str:
    crc32 = zlib.crc32(json.dumps([notes, table], sort_keys=True).encode())
    for chunk in chunks:
        crc32 = zlib.crc32(chunk, crc32)
    return f"{crc32:08x}"


# safetensors keeps one name for itself; ours is shifted so that every name can be used.
def _escape(name: str) -> str:
    return name + "_" if name.rstrip("_") == _META.rstrip("_") else name


def _unescape(name: str) -> str:
    return name[:-1] if name.rstrip("_") == _META.rstrip("_") else name


def _read(path: str | os.PathLike[str]) -> bytes:
    _text(path)
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise _unusable(path, "readable", error) from error


def _replace(path: str | os.PathLike[str], chunks: list[bytes]) -> None:
    """Write a temporary file beside the target and move it into place."""
    _text(path)
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        with beside.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise _unusable(path, "writable", error) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def _text(path: str | os.PathLike[str]) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        raise FileTypeError(
            f"file: expected a path as a str or Path, got {type(path).__name__}; write 'params.bin'"
        ) from None


def _missing(path: str | os.PathLike[str]) -> MissingFileError:
    return MissingFileError(f"file '{_text(path)}': No such file or directory; check the path")


def _unusable(path: str | os.PathLike[str], expected: str, error: OSError) -> FileFormatError:
    return FileFormatError(
        f"file '{_text(path)}': expected a {expected} file, got {error.strerror}; check the path"
    )


def _damaged(path: str | os.PathLike[str], got: str) -> FileFormatError:
    return FileFormatError(
        f"file '{_text(path)}': expected a file that brancher saved, got {got}; "
        "it is damaged, cut short or of another kind"
    )
