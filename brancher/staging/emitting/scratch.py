"""Buffers of a generated C++ wrapper that need not be tensors.

Inductor's wrapper makes a tensor for every buffer and for every part of one: 0.2 us each, more than the
arithmetic of a small model. Here a buffer that only the generated kernels see becomes bytes on the stack, a
part of a buffer a pointer, and in a loop of steps the small remaining tensors are used again. What does not
read exactly as expected stays as it was generated.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

#: How the generated function begins.
ENTRY = "void inductor_entry_impl("
_END = "\n} // inductor_entry_impl"
_ARRAY = re.compile(r"static constexpr int64_t (int_array_\d+)\[\] = \{([\dL, ]+)\};")
_NO_ARRAY = re.compile(r"static constexpr int64_t \*(int_array_\d+)=nullptr;")
MAKE = re.compile(
    r"    AtenTensorHandle (?P<name>buf\d+)_handle;\n"
    r"    AOTI_TORCH_ERROR_CODE_CHECK\(aoti_torch_empty_strided\((?P<ndim>\d+), (?P<sizes>int_array_\d+), "
    r"(?P<strides>int_array_\d+), cached_torch_dtype_(?P<dtype>\w+), cached_torch_device_type_cpu, 0, "
    r"&(?P=name)_handle\)\);\n"
    r"    RAIIAtenTensorHandle (?P=name)\((?P=name)_handle\);\n"
)
PART = re.compile(
    r"    auto (?P<name>buf\d+) = wrap_with_raii_handle_if_needed\(reinterpret_tensor_wrapper\("
    r"(?P<whole>buf\d+), \d+, int_array_\d+, int_array_\d+, (?P<offset>\d+)L\)\);  // alias\n"
)
AGAIN = re.compile(r"    auto (?P<name>buf\d+) = std::move\((?P<before>buf\d+)\);  // reuse\n")
_BYTES = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
}

#: Larger buffers stay tensors, and so does what comes after this many bytes on the stack.
LARGEST, MOST = 16_384, 131_072

#: What the rewritten wrapper uses; it goes before it.
PRELUDE = r"""
#include <vector>

namespace brancher {
template <size_t N>
struct Scratch {  // a buffer on the stack
  alignas(64) char bytes[N];
  void* data_ptr() { return bytes; }
  void reset() {}
};

struct Part {  // a buffer again, or a part of one
  void* pointer;
  void* data_ptr() const { return pointer; }
  void reset() {}
};

// The small tensors of a loop's last two steps: those of the step before last are free again. They belong to
// the loop alone, and its results leave with it.
struct Pool {
  std::vector<RAIIAtenTensorHandle> tensors;
  size_t step = 0;
};
thread_local Pool* pool = nullptr;

inline AOTITorchError empty(
    size_t slot, int64_t ndim, const int64_t* sizes, const int64_t* strides, int32_t dtype, int32_t device,
    int32_t index, AtenTensorHandle* result) {
  if (pool == nullptr) return aoti_torch_empty_strided(ndim, sizes, strides, dtype, device, index, result);
  const size_t place = 2 * slot + pool->step % 2;
  if (pool->tensors.size() <= place) pool->tensors.resize(place + 1);
  RAIIAtenTensorHandle& kept = pool->tensors[place];
  if (kept.get() == nullptr) {
    AtenTensorHandle made = nullptr;
    const AOTITorchError failed =
        aoti_torch_empty_strided(ndim, sizes, strides, dtype, device, index, &made);
    if (failed) return failed;
    kept = RAIIAtenTensorHandle(made);
  }
  return aoti_torch_new_tensor_handle(kept.get(), result);
}
}  // namespace brancher

"""


class _Buffer(NamedTuple):
    """A tensor that the wrapper makes: its bytes, and the length of one entry."""

    text: str
    size: int
    item: int


def lighten(source: str) -> str:
    """Rewrite a C++ wrapper, which holds `ENTRY`, so that it makes few tensors; see the file's head."""
    start = source.index(ENTRY)
    stop = source.find(_END, start)
    stop = len(source) if stop < 0 else stop
    body = source[start:stop]
    known = arrays(body)
    made = {m["name"]: each for m in MAKE.finditer(body) if (each := buffer(m, known)) is not None}
    again = {m["name"]: (m["before"], m[0]) for m in AGAIN.finditer(body)}
    body = _point_at_parts(body, made, again)
    body = _put_on_stack(body, made, again)
    body = _reuse_in_loops(body, made)
    return source[:start] + PRELUDE + body + source[stop:]


def arrays(body: str) -> dict[str, list[int]]:
    """The arrays of sizes and strides that a wrapper names."""
    found: dict[str, list[int]] = {}
    for name, numbers in _ARRAY.findall(body):
        values = [int(number.strip(" L")) for number in numbers.split(",") if number.strip()]
        found[name] = values if found.get(name, values) == values else [-1]  # -1: two meanings, not used
    return {**found, **{name: [] for name in _NO_ARRAY.findall(body)}}


def buffer(match: re.Match[str], known: dict[str, list[int]]) -> _Buffer | None:
    """The tensor that a wrapper makes where `MAKE` matches; None where its size can not be told."""
    sizes, strides = known.get(match["sizes"]), known.get(match["strides"])
    item = _BYTES.get(match["dtype"])
    ndim = int(match["ndim"])
    if sizes is None or strides is None or item is None or -1 in sizes + strides:
        return None
    if len(sizes) != ndim or len(strides) != ndim:
        return None
    last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    size = (last + 1) * item if math.prod(sizes) else item
    return _Buffer(match[0], size, item)


def _mentions(body: str, name: str) -> int:
    return len(re.findall(rf"\b{name}\b", body))


def _reads(body: str, name: str) -> int:
    """How often a buffer is mentioned for its memory alone."""
    return len(re.findall(rf"\b{name}\.data_ptr\(\)|^    {name}\.reset\(\);", body, re.MULTILINE))


def _point_at_parts(body: str, made: dict[str, _Buffer], again: dict[str, tuple[str, str]]) -> str:
    """Make parts pointers where kernels alone read them, while the whole is still there."""
    for match in list(PART.finditer(body)):
        name, whole = match["name"], match["whole"]
        if _mentions(body, name) != _reads(body, name) + 1 or _root(whole, again) not in made:
            continue
        last = body.rfind(f"{name}.data_ptr()")
        ends = [body.find(f"    {whole}.reset();"), body.find(f"std::move({whole})")]
        if any(0 <= end < last for end in ends):
            continue
        offset = int(match["offset"]) * made[_root(whole, again)].item
        pointer = f"static_cast<char*>(static_cast<void*>({whole}.data_ptr())) + {offset}"
        body = body.replace(match[0], f"    brancher::Part {name}{{{pointer}}};\n")
    return body


def _root(name: str, again: dict[str, tuple[str, str]]) -> str:
    while name in again:
        name = again[name][0]
    return name


def _put_on_stack(body: str, made: dict[str, _Buffer], again: dict[str, tuple[str, str]]) -> str:
    """Put buffers on the stack that, by all the names they go by, kernels alone read."""
    total = 0
    for root, buffer in made.items():
        family = [root, *(name for name in again if _root(name, again) == root)]
        text = body.replace(buffer.text, "")
        for name in family[1:]:
            text = text.replace(again[name][1], "")
        is_plain = all(_mentions(text, name) == _reads(text, name) for name in family)
        if not is_plain or buffer.size > LARGEST or total + buffer.size > MOST:
            continue
        total += buffer.size
        body = body.replace(buffer.text, f"    brancher::Scratch<{buffer.size}> {root};\n")
        for name in family[1:]:
            before, line = again[name]
            body = body.replace(line, f"    brancher::Part {name}{{{before}.data_ptr()}};\n")
    return body


def _reuse_in_loops(body: str, made: dict[str, _Buffer]) -> str:
    slot = 0
    for buffer in made.values():
        if buffer.text in body and buffer.size <= LARGEST:
            changed = buffer.text.replace("aoti_torch_empty_strided(", f"brancher::empty({slot}, ")
            body = body.replace(buffer.text, changed)
            slot += 1
    return body
