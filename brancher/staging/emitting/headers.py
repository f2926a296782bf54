"""Small headers for small graphs: reading torch's own takes the C++ compiler longer than the graph does.

Inductor's wrapper includes all of torch's vector classes, pybind11 and Python. Code without vectors uses few
of their names; where it uses no others, `lean` gives it a header of our own instead (1.0 s for 2.3 s).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

_WRAPPER = "#include <torch/csrc/inductor/cpp_wrapper/cpu.h>"
_KERNEL = "#include <torch/csrc/inductor/cpp_prefix.h>"
_RELEASE = "py::gil_scoped_release_simple release;"
_PRELUDE = r"""
#include <torch/csrc/inductor/aoti_runtime/utils.h>
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

using namespace torch::aot_inductor;

extern "C" void* PyEval_SaveThread();
extern "C" void PyEval_RestoreThread(void*);

namespace brancher {
struct Released {  // Python's lock, as long as it lives
  void* thread = PyEval_SaveThread();
  ~Released() { PyEval_RestoreThread(thread); }
};

template <typename T, typename U>
inline T convert(U value) {
  // A negative number wraps in an unsigned integer, by way of a signed one.
  if constexpr (std::is_same_v<T, uint8_t> && std::is_floating_point_v<U>) {
    return static_cast<T>(static_cast<int64_t>(value));
  } else {
    return static_cast<T>(value);
  }
}
}  // namespace brancher

template <typename T>
inline T max_propagate_nan(T a, T b) {
  return a != a ? a : (a > b ? a : b);
}
template <typename T>
inline T min_propagate_nan(T a, T b) {
  return a != a ? a : (a < b ? a : b);
}
"""
# Checks of integer divisions, of which there are none.
_CHECKS = re.compile(
    r" *std::atomic<int> inductor_cpu_integer_div_error\{0\};\n"
    r"| *inductor_cpu_integer_div_error_flag = &inductor_cpu_integer_div_error;\n"
    r"| *inductor_cpu_integer_div_error_flag = nullptr;\n"
    r"| *inductor_cpu_throw_if_integer_div_error\(inductor_cpu_integer_div_error\);\n"
)
_SCOPED = re.compile(r"\b\w+(?:::\w+)+")
_CALLED = re.compile(r"(?<![\w:.>])(\w+)(?:<[\w ]+>)?\(")
_KNOWN_SCOPED = {
    *("std::exp", "std::log", "std::log1p", "std::expm1", "std::abs", "std::sqrt", "std::sin", "std::cos"),
    *("std::tanh", "std::isnan", "std::isinf", "std::isfinite", "std::numeric_limits", "std::move"),
    *(
        "std::pow",
        "std::floor",
        "std::ceil",
        "std::erf",
        "std::lgamma",
        "std::atan",
        "std::fmod",
        "std::hypot",
    ),
}
_KNOWN_CALLED = {
    *(
        "__builtin_memcpy",
        "max_propagate_nan",
        "min_propagate_nan",
        "static_cast",
        "decltype",
        "for",
        "if",
        "double",
        "float",
    ),
    *("int64_t", "int32_t", "bool", "while", "switch", "return", "sizeof", "pragma", "uint8_t"),
}


def are_enough(text: str) -> bool:
    """Whether the kernels of a wrapper use no names but the known ones, and the wrapper calls nothing odd."""
    wrapper, *kernels = _plain(text).split(_KERNEL)
    if _WRAPPER not in wrapper or "#include <torch" in wrapper.replace(_WRAPPER, ""):
        return False
    if "aoti_torch_call_dispatcher" in wrapper:
        return False
    return all(_is_known(kernel) for kernel in kernels)


def lean(text: str) -> str:
    """Return a text with small headers."""
    small = _plain(text).replace(_WRAPPER, _PRELUDE).replace(_KERNEL, "")
    return small.replace(_RELEASE, "brancher::Released release;")


def is_lean(text: str) -> bool:
    """Whether a text has small headers."""
    return _PRELUDE in text


def command(compiler: str) -> list[str]:
    """Return the command that builds a library from a text with small headers, without source and target."""
    folder = Path(torch.__file__).parent
    undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    return [
        *(compiler, "-O3", "-DNDEBUG", "-march=native", "-std=c++20", "-fPIC", "-shared", "-w", *undefined),
        # As Inductor: sums and products in the order and with the roundings of the text.
        *("-fno-trapping-math", "-fno-math-errno", "-ffp-contract=off", "-fno-tree-loop-vectorize"),
        *(f"-I{folder / 'include'}", f"-L{folder / 'lib'}", "-ltorch_cpu", f"-Wl,-rpath,{folder / 'lib'}"),
    ]


def _plain(text: str) -> str:
    return _CHECKS.sub("", text).replace("c10::convert<", "brancher::convert<")


def _is_known(kernel: str) -> bool:
    names = set(_SCOPED.findall(kernel)) - {"brancher::convert"}
    scoped = {"::".join(name.split("::")[:2]) for name in names}
    called = {name for name in _CALLED.findall(kernel) if not re.fullmatch(r"cpp_fused_\w+|tmp\w+", name)}
    return not (scoped - _KNOWN_SCOPED or called - _KNOWN_CALLED)
