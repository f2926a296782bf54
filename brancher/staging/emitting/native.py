"""One shared library per compiled graph, called through torch's ahead-of-time runner, with a loop in it.

Inductor's C++ wrapper gives one function, ``inductor_entry_impl(inputs, outputs)``. Around it goes a small C
interface, the one that ``AOTIModelContainerRunnerCpu`` loads: a call crosses from Python once, and a
library from an earlier process loads in a millisecond, with no compiler imported. A library answers in two
modes, told apart by the runner's ``num_models``: 1 is one step, 2 a loop of steps whose outputs feed the next
one's inputs.

The loop lies here, in C++, not in the graph: a ``while_loop`` in the graph clones every carried tensor at
every iteration and has to be compiled beside the single step; this one shares the step's code.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from brancher.staging.emitting import headers
from brancher.staging.emitting.ahead_code import Before, with_ahead
from brancher.staging.emitting.loop_code import NOT_ALONE, RELEASE, SOURCE
from brancher.staging.emitting.scratch import ENTRY, lighten
from brancher.staging.emitting.small_algebra import inline_small_algebra
from brancher.staging.rewriting.loops import LoopCode

_OUTPUTS = re.compile(r"\bnum_outputs=(\d+)")

# The control tensor: [steps, stop output or -1, carried pairs, rows, (output, input)..., (output, bytes)...];
# its first entry is set to the number of steps done.
_INTERFACE = r"""
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

namespace brancher {
constexpr size_t kOutputs = @OUTPUTS@;
thread_local std::string last_error;

inline void* data(AtenTensorHandle handle) {
  void* pointer = nullptr;
  AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(handle, &pointer));
  return pointer;
}

inline void loop(AtenTensorHandle* given, size_t count, AtenTensorHandle* out) {
  RAIIAtenTensorHandle control(given[0]);
  int64_t* code = static_cast<int64_t*>(data(control));
  const int64_t steps = code[0], stop = code[1], pairs = code[2], rows = code[3];
  const int64_t* carried = code + 4;
  const int64_t* written = carried + 2 * pairs;
  std::vector<RAIIAtenTensorHandle> tables;
  std::vector<char*> cursor;
  for (int64_t r = 0; r < rows; ++r) {
    tables.emplace_back(given[1 + r]);
    cursor.push_back(static_cast<char*>(data(tables.back())));
  }
  const size_t inputs = count - 1 - rows;
  std::vector<RAIIAtenTensorHandle> held;
  for (size_t i = 0; i < inputs; ++i) held.emplace_back(given[1 + rows + i]);
  std::vector<int64_t> source(inputs, -1);
  for (int64_t p = 0; p < pairs; ++p) source[carried[2 * p + 1]] = carried[2 * p];
  std::vector<AtenTensorHandle> in(inputs + kAhead);
  std::vector<RAIIAtenTensorHandle> known;  // computed once, if from nothing that is carried
  bool is_fixed = true;
  for (size_t read : kRead) is_fixed &= source[read] < 0;
  code[0] = 0;
  Pool own;
  struct Use {
    Use(Pool* p) { pool = p; }
    ~Use() { pool = nullptr; }
  } use(&own);
  for (int64_t k = 0; k < steps; ++k) {
    own.step = k;
    for (size_t i = 0; i < inputs; ++i) {
      if (k > 0 && source[i] >= 0) {
        in[i] = out[source[i]];
        out[source[i]] = nullptr;
      } else {
        AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_new_tensor_handle(held[i].get(), &in[i]));
      }
    }
    for (size_t o = 0; o < kOutputs; ++o) {
      if (k > 0 && out[o] != nullptr) aoti_torch_delete_tensor_object(out[o]);
      out[o] = nullptr;
    }
    if (kAhead > 0 && (k == 0 || !is_fixed)) known = ahead(in.data());
    for (size_t i = 0; i < known.size(); ++i)
      AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_new_tensor_handle(known[i].get(), &in[inputs + i]));
    brancher_step(in.data(), out);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t bytes = written[2 * r + 1];
      std::memcpy(cursor[r], data(out[written[2 * r]]), bytes);
      cursor[r] += bytes;
    }
    code[0] = k + 1;
    if (stop >= 0 && *static_cast<bool*>(data(out[stop]))) break;
  }
}
}  // namespace brancher

extern "C" {
int32_t AOTInductorModelContainerCreateWithDevice(
    void** handle, size_t models, const char*, const char*) {
  *handle = reinterpret_cast<void*>(models);
  return 0;
}
int32_t AOTInductorModelContainerDelete(void*) { return 0; }
int32_t AOTInductorModelContainerGetNumOutputs(void*, size_t* count) {
  *count = brancher::kOutputs;
  return 0;
}
int32_t AOTInductorModelContainerGetNumConstants(void*, size_t* count) { *count = 0; return 0; }
int32_t AOTInductorGetLastError(const char** text) { *text = brancher::last_error.c_str(); return 0; }
int32_t AOTInductorModelContainerRun(
    void* mode, AtenTensorHandle* in, size_t count, AtenTensorHandle* out, size_t, void*, void*) {
  try {
    py::gil_scoped_release_simple release;
    if (reinterpret_cast<size_t>(mode) == 2) brancher::loop(in, count, out);
    else inductor_entry_impl(in, out);
    return 0;
  } catch (const std::exception& error) {
    brancher::last_error = error.what();
  } catch (...) {
    brancher::last_error = "unknown error";
  }
  return 1;
}
@UNUSED@
}
"""

# What the runner looks up but never calls for a graph without constants.
_UNUSED = (
    "ModelContainerGetConstantName", "ModelContainerGetConstantOriginalFQN", "ModelContainerGetConstantDtype",
    "ModelContainerGetConstantType", "ModelContainerGetConstantDataSize",
    "ModelContainerGetConstantFromFolded",
    "ModelContainerExtractConstantsMap", "ModelContainerUpdateConstantBuffer",
    "ModelContainerUpdateConstantBufferFromCpu", "ModelContainerUpdateUserManagedConstantBuffer",
    "ModelContainerUpdateInactiveConstantBuffer", "ModelContainerRunConstantFolding",
    "ModelContainerSwapConstantBuffer", "ModelContainerFreeInactiveConstantBuffer",
    "ModelContainerGetConstantsBlobSize", "ModelContainerGetCallSpec", "ModelUpdateConstantsFromBlob",
    "ModelContainerRunSingleThreaded",
)  # fmt: skip


def compiler() -> str | None:
    """Return the C++ compiler of this machine (``$CXX`` if it runs, else g++, clang++ or c++), or None."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)) and _runs(path):
            return name
    return None


@functools.cache
def _runs(path: str) -> bool:
    try:
        return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:  # no program, whatever its file says
        return False


def library_source(
    wrapper: str, loops: Sequence[LoopCode] = (), before: Before | None = None, small_headers: bool = True
) -> str | None:
    """Return the C++ text of a library for Inductor's wrapper module; None where it can not stand alone.

    Args:
        wrapper: the module.
        loops: what it calls.
        before: what is computed ahead of it.
        small_headers: use small headers where they are enough.
    """
    found, outputs = SOURCE.search(wrapper), _OUTPUTS.search(wrapper)
    if found is None or outputs is None:
        return None
    text = found.group(1)
    if ENTRY not in text or any(sign in text for sign in NOT_ALONE):
        return None
    unused = "\n".join(f"int32_t AOTInductor{name}() {{ return 1; }}" for name in _UNUSED)
    interface = _INTERFACE.replace("@OUTPUTS@", outputs.group(1)).replace("@UNUSED@", unused)
    text = text.replace(RELEASE, "", 1)  # once a call, not once a step
    text = lighten(inline_small_algebra(text))
    constants = dict.fromkeys(c for loop in loops for c in loop.constants if c not in text)
    declared = "".join([*constants, *(loop.declaration for loop in loops)])
    text = text.replace(ENTRY, declared + ENTRY, 1)
    whole = with_ahead(text + "".join(loop.definition for loop in loops), before)
    if whole is None:
        return None
    text, entries = whole
    if small_headers and headers.are_enough(text):
        return headers.lean(text + entries + interface)
    return text + entries + interface


def control(
    steps: int, stop: int, carried: Sequence[tuple[int, int]], rows: Sequence[tuple[int, int]]
) -> list[int]:
    """Return the numbers of a loop's control tensor (see ``_INTERFACE``)."""
    pairs = [number for pair in (*carried, *rows) for number in pair]
    return [steps, stop, len(carried), len(rows), *pairs]


def build(command: Sequence[str], source: Path, target: Path) -> None:
    """Run the compiler.

    Raises:
        subprocess.CalledProcessError: it failed; ``stderr`` holds what it said.
    """
    part = target.with_suffix(f".{os.getpid()}.tmp")
    subprocess.run(
        [command[0], str(source), *command[1:], "-o", str(part)], check=True, capture_output=True, text=True
    )
    part.replace(target)


_HEADERS = """#include <torch/csrc/inductor/cpp_wrapper/cpu.h>
#include <torch/csrc/inductor/cpp_prefix.h>
"""


def header_flags(folder: Path, tag: str) -> list[str]:
    """Return the flags that use the precompiled headers, or none where they are not built yet.

    Reading torch's headers is 4 of the 6 seconds that the compiler takes for a small graph.
    """
    header = folder / f"headers-{tag}.h"
    return ["-include", str(header)] if header.with_suffix(".h.gch").exists() else []


def precompile_headers(command: Sequence[str], folder: Path, tag: str) -> None:
    """Start building the precompiled headers for later graphs (10 s, 170 MB), at the lowest priority.

    The process is left to itself: a short program would otherwise never profit. Set
    ``BRANCHER_PRECOMPILE_HEADERS=0`` to switch it off. The headers of at most one other command are kept.
    """
    header = folder / f"headers-{tag}.h"
    target, part = header.with_suffix(".h.gch"), header.with_suffix(".h.tmp")
    unwanted = os.environ.get("BRANCHER_PRECOMPILE_HEADERS") == "0" or os.name != "posix"
    if unwanted or not Path(command[0]).name.startswith("g++") or shutil.which("nice") is None:
        return
    if target.exists() or part.exists():
        return
    for old in sorted(folder.glob("headers-*.gch"), key=os.path.getmtime)[:-1]:
        old.unlink(missing_ok=True)
    header.write_text(_HEADERS)
    part.touch()
    words = [word for word in command if not word.startswith(("-l", "-L", "-shared"))]
    build_it = shlex.join([*words, "-x", "c++-header", str(header), "-o", str(part)])
    old_name, new_name = shlex.quote(str(part)), shlex.quote(str(target))
    whole = f"nice -n 19 {build_it} && mv {old_name} {new_name} || rm -f {old_name}"
    # The shell leaves at once, so nothing of ours waits for the compiler or is waited for.
    subprocess.run(
        ["sh", "-c", f"({whole}) </dev/null >/dev/null 2>&1 &"], check=False, start_new_session=True
    )
