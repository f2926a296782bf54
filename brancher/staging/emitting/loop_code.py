"""C++ for the loops of a graph: Inductor lowers one turn, and its kernels are called with pointers to rows.

A turn that needs more than kernels (draws, large products of matrices) is called with tensors over the rows'
memory instead.
"""

from __future__ import annotations

import itertools
import math
import re

import torch

from brancher.staging.emitting import scratch
from brancher.staging.rewriting.loops import Loop, LoopCode

# A graph that calls back into Python, or carries tensors beside its inputs, can not stand alone.
NOT_ALONE = ("custom_op_wrapper", "PyObject_Call", "_frozen_param", "constants_")
RELEASE = "py::gil_scoped_release_simple release;"

#: Where Inductor's wrapper module holds its C++.
SOURCE = re.compile(r'cpp_wrapper_src = \(\nr"""(.*?)"""\n\)', re.DOTALL)

Tensor = torch.Tensor

_END = "} // inductor_entry_impl"
_INPUT = re.compile(r"    auto (\w+) = std::move\(inputs\[(\d+)\]\);")
_RESULT = re.compile(r"    output_handles\[(\d+)\] = (\w+)\.release\(\);")
_CALL = re.compile(r"    (cpp_fused_\w+)\((.*)\);")
_CALLED = re.compile(r"^    (cpp_fused_\w+)\(", re.MULTILINE)
_POINTER = re.compile(r"\((const )?([\w: ]+)\*\)\((\w+)\.data_ptr\(\)\)")
_VIEW = re.compile(
    r"    auto (?P<name>\w+) = wrap_with_raii_handle_if_needed\(reinterpret_tensor_wrapper\("
    r"(?P<whole>\w+), \d+, (?P<sizes>\w+), (?P<strides>\w+), (?P<offset>\d+)L\)\);"
)
_IDLE = re.compile(
    r" *//.*| *|    static constexpr int64_t .*;|    \w+\.reset\(\);|    auto inputs = steal_from_.*;"
    r"|    py::gil_scoped_release_simple release;"
)
_KERNEL = re.compile(r'extern "C" *void *(cpp_fused_\w*)\(')
_numbers = itertools.count()


def loop_code(loop: Loop, wrapper: str) -> LoopCode | None:
    """Return the code of a loop, given Inductor's wrapper module for its body; None where it has none."""
    found = SOURCE.search(wrapper)
    if found is None or any(sign in found.group(1) for sign in NOT_ALONE):
        return None
    text = found.group(1)
    start, end = text.find(scratch.ENTRY), text.find(_END)
    if start < 0 or end < 0:
        return None
    # One library may hold several.
    name = f"cpp_fused_loop_{next(_numbers)}"
    kernels = _KERNEL.sub(lambda m: f"static void {name}_{m[1]}(", text[end + len(_END) :])
    count = loop.always + len(loop.columns) + sum(table.head for table in loop.tables)
    given = ", ".join([*(f"const char* in{i}" for i in range(count)), "char* out"])
    signature = f"static void {name}({given})"
    rows = _Rows(loop)
    turn = _Turn(text[start:end], rows)
    if turn.is_plain:
        lines = [*rows.heads(), *rows.looped(turn.lines(name))]
        return LoopCode(name, f"{signature};\n", _function(signature, lines, kernels), turn.workspace)
    own = _KERNEL.sub(lambda m: f"static void {name}_{m[1]}(", text[:start])
    known = _CALLED.sub(lambda m: f"    {name}_{m[1]}(", text[start:end] + "}\n")
    known = known.replace(scratch.ENTRY, f"static void {name}_turn(", 1).replace(RELEASE, "", 1)
    constants = tuple(f"{line}\n" for line in own.splitlines() if line.startswith("CACHE_TORCH_"))
    lines = [*rows.heads(), *rows.looped(rows.with_tensors(f"{name}_turn"))]
    declared = "".join(f"{kernel}\n" for kernel in re.findall(r"static void \w+\([^;]*;", own))
    return LoopCode(name, declared + known + _function(signature, lines), kernels, 0, constants)


def _function(signature: str, lines: list[str], before: str = "") -> str:
    return f"{before}\n{signature} {{\n{''.join(lines)}}}\n"


class _Rows:
    """Where a loop's inputs and results lie in turn ``k``.

    Args:
        loop: the loop.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._item = loop.dtype.itemsize

    def input(self, number: int) -> str:
        """Where an input of the body is."""
        loop = self.loop
        if number < loop.always:
            return f"in{number}"
        number -= loop.always
        if number < len(loop.columns):
            first, step = loop.columns[number]
            value = loop.samples[loop.always + number]
            size = value.numel() * value.dtype.itemsize
            return f"in{loop.always + number} + ({first}L + k * {step}L) * {size}L"
        index, back = loop.carries[number - len(loop.columns)]
        return self.result(index, back)

    def size(self, index: int) -> int:
        """Bytes of one row of a table."""
        return math.prod(self.loop.tables[index].shape) * self._item

    def result(self, index: int, back: int = 0) -> str:
        """Where a result of the body goes, or went some turns before."""
        table, size = self.loop.tables[index], self.size(index)
        row = f"k + {table.head - back}L"
        if table.length < table.head + self.loop.turns:
            row = f"({row}) % {table.length}L"
        return f"out + {table.start * self._item}L + ({row}) * {size}L"

    def heads(self) -> list[str]:
        """Lines that copy what was before the loop into its tables."""
        lines = []
        number = self.loop.always + len(self.loop.columns)
        for table in self.loop.tables:
            size = math.prod(table.shape) * self._item
            for row in range(table.head):
                target = f"out + {table.start * self._item + row * size}L"
                lines.append(f"  __builtin_memcpy({target}, in{number}, {size}L);\n")
                number += 1
        return lines

    def looped(self, lines: list[str]) -> list[str]:
        """Lines that do others in every turn."""
        return [f"  for (int64_t k = 0; k < {self.loop.turns}L; ++k) {{\n", *lines, "  }\n"]

    def with_tensors(self, function: str) -> list[str]:
        """Lines that call a function of tensors over the rows' memory."""
        results = len(self.loop.tables)
        samples = self.loop.samples
        lines = [f"    AtenTensorHandle given[{len(samples) + 1}], made[{results + 1}];\n"]
        for number, value in enumerate(samples):
            sizes = ", ".join(f"{size}L" for size in (*value.shape, 0))
            strides = ", ".join(f"{stride}L" for stride in (*_contiguous(value), 0))
            dtype = f"aoti_torch_dtype_{str(value.dtype).removeprefix('torch.')}()"
            lines.append(
                f"    {{ const int64_t sizes[] = {{{sizes}}}, strides[] = {{{strides}}};\n"
                "      AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_create_tensor_from_blob("
                f"(void*)({self.input(number)}), "
                f"{value.dim()}, sizes, strides, 0, {dtype}, aoti_torch_device_type_cpu(), 0, "
                f"&given[{number}])); }}\n"
            )
        lines.append(f"    {function}(given, made);\n")
        for index, table in enumerate(self.loop.tables):
            size = math.prod(table.shape) * self._item
            lines.append(
                f"    {{ RAIIAtenTensorHandle row(made[{index}]);\n"
                f"      __builtin_memcpy({self.result(index)}, row.data_ptr(), {size}L); }}\n"
            )
        return lines


def _contiguous(value: Tensor) -> list[int]:
    return [math.prod(value.shape[dim + 1 :]) for dim in range(value.dim())]


class _Turn:
    """The text of one turn, read.

    Args:
        entry: Inductor's function for the body.
        rows: where its inputs and results lie.
    """

    def __init__(self, entry: str, rows: _Rows) -> None:
        self.calls: list[tuple[str, list[tuple[str, str]]]] = []
        self.pointers: dict[str, str] = {}
        self.workspace = 0
        self._inputs: dict[str, int] = {}
        self._results: dict[str, int] = {}
        self._views: dict[str, re.Match[str]] = {}
        self._copies: list[tuple[str, str, int]] = []
        arrays = scratch.arrays(entry)
        made = {m["name"]: m for m in scratch.MAKE.finditer(entry)}
        again = {m["name"]: m["before"] for m in scratch.AGAIN.finditer(entry)}
        parts = {m["name"]: (m["whole"], int(m["offset"])) for m in scratch.PART.finditer(entry)}
        for pattern in (scratch.MAKE, scratch.AGAIN, scratch.PART):
            entry = pattern.sub("", entry)
        lines = entry[entry.index("{") + 1 :].splitlines()
        self.is_plain = all(self._read(line) for line in lines) and not set(parts) & set(self._results)
        if not self.is_plain:
            return
        item = rows.loop.dtype.itemsize
        self._base = rows.loop.entries * item
        for name, number in self._inputs.items():
            self.pointers[name] = rows.input(number)
        families: dict[str, list[str]] = {}
        for name in [*made, *(name for name in again if name not in parts)]:
            root = name
            while root in again:
                root = again[root]
            families.setdefault(root, []).append(name)
        for root, family in families.items():
            self.is_plain &= root in made or root in self._inputs
            results = [self._results[name] for name in family if name in self._results]
            buffer = scratch.buffer(made[root], arrays) if root in made else None
            self.is_plain &= len(results) < 2 and buffer is not None
            if results and buffer is not None:  # a result is all of its buffer
                self.is_plain &= buffer.size == rows.size(results[0])
            if not self.is_plain or buffer is None:
                return
            place = rows.result(results[0]) if results else self._space(buffer.size)
            self.pointers.update(dict.fromkeys(family, place))
            for name, (whole, offset) in parts.items():
                if whole in family:
                    self.pointers[name] = f"{place} + {offset * buffer.item}L"
        for name, view in self._views.items():
            index, shape = self._results.get(name, -1), arrays.get(view["sizes"], [-1])
            packed = [math.prod(shape[dim + 1 :]) for dim in range(len(shape))]
            self.is_plain &= index >= 0 and arrays.get(view["strides"]) == packed
            self.is_plain &= view["whole"] in self.pointers and math.prod(shape) * item == rows.size(index)
            if not self.is_plain:
                return
            source = f"{self.pointers[view['whole']]} + {int(view['offset']) * item}L"
            self._copies.append((rows.result(index), source, rows.size(index)))
            self.pointers[name] = source
        used = {name for _, pointers in self.calls for _, name in pointers}
        self.is_plain &= used <= set(self.pointers) and set(self._results) <= set(self.pointers)

    def _read(self, line: str) -> bool:
        """Take a line in; false where it is unknown."""
        if match := _INPUT.fullmatch(line):
            self._inputs[match[1]] = int(match[2])
        elif match := _RESULT.fullmatch(line):
            self._results[match[2]] = int(match[1])
        elif match := _VIEW.fullmatch(line):
            self._views[match["name"]] = match
        elif match := _CALL.fullmatch(line):
            pointers = _POINTER.findall(match[2])
            self.calls.append((match[1], [(const + kind, name) for const, kind, name in pointers]))
            return len(pointers) == match[2].count(".data_ptr()") == match[2].count(",") + 1
        else:
            return _IDLE.fullmatch(line) is not None
        return True

    def _space(self, size: int) -> str:
        place = -(-(self._base + self.workspace) // 64) * 64
        self.workspace = place + size - self._base
        return f"out + {place}L"

    def lines(self, name: str) -> list[str]:
        """The calls of one turn."""
        text = []
        for kernel, pointers in self.calls:
            given = ", ".join(f"({kind}*)({self.pointers[each]})" for kind, each in pointers)
            text.append(f"    {name}_{kernel}({given});\n")
        for to, source, size in self._copies:
            text.append(f"    __builtin_memcpy({to}, {source}, {size}L);\n")
        return text
