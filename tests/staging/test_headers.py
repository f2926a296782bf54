from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
import torch

from brancher.staging import stage
from brancher.staging.emitting import headers, native

Tensor = torch.Tensor

_TEXT = """#include <torch/csrc/inductor/cpp_wrapper/cpu.h>
void inductor_entry_impl(AtenTensorHandle* input_handles, AtenTensorHandle* output_handles) {
@WRAPPER@
} // inductor_entry_impl

#include <torch/csrc/inductor/cpp_prefix.h>
extern "C"  void  cpp_fused_exp_0(const double* in_ptr0, double* out_ptr0)
{
    std::atomic<int> inductor_cpu_integer_div_error{0};
    inductor_cpu_integer_div_error_flag = &inductor_cpu_integer_div_error;
    auto tmp0 = in_ptr0[static_cast<int64_t>(0L)];
    auto tmp1 = @CALL@(tmp0);
    out_ptr0[static_cast<int64_t>(0L)] = tmp1;
    inductor_cpu_throw_if_integer_div_error(inductor_cpu_integer_div_error);
}
"""


def text(call: str = "std::exp", wrapper: str = "") -> str:
    return _TEXT.replace("@CALL@", call).replace("@WRAPPER@", wrapper)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bool]:
    """Whether each library that is built has small headers, in a cache of its own."""
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("BRANCHER_PRECOMPILE_HEADERS", "0")
    found: list[bool] = []
    build = native.build

    def watched(command: list[str], source: Path, target: Path) -> None:
        found.append(headers.is_lean(source.read_text()))
        build(command, source, target)

    monkeypatch.setattr(native, "build", watched)
    return found


def test_known_names_get_small_headers() -> None:
    small = headers.lean(text())
    assert headers.are_enough(text()) and headers.is_lean(small)
    assert "cpp_prefix" not in small and "div_error" not in small


@pytest.mark.parametrize("call", ["calc_polygamma", "at::native::digamma", "c10::div_floor_integer"])
def test_unknown_names_need_the_headers_of_torch(call: str) -> None:
    assert not headers.are_enough(text(call))


def test_calls_of_the_dispatcher_need_the_headers_of_torch() -> None:
    assert not headers.are_enough(text(wrapper="    aoti_torch_call_dispatcher(name, over, args);"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_graph_with_small_headers_equals_eager(built: list[bool], dtype: torch.dtype) -> None:
    def function(x: Tensor) -> Tensor:
        y = torch.where(x > 0, x.log1p(), x.abs().sqrt()).maximum(x.exp())
        return y.logsumexp(0) + y.clamp(0.1, 2.0).sum() + (x > 0.5).to(torch.uint8).sum() + y.max()

    x = torch.linspace(-1.0, 2.0, 11, dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    assert torch.allclose(stage(function)(x), function(x), rtol=tolerance)
    assert built == [True]
    nothing = torch.full_like(x, torch.nan)
    assert stage(function)(nothing).isnan()


def test_large_graph_keeps_vectors(built: list[bool]) -> None:
    x = torch.linspace(0.0, 1.0, 500)
    assert torch.allclose(stage(lambda x: x.exp().sum())(x), x.exp().sum())
    assert built == [False]


def test_short_rows_have_plain_loops(built: list[bool]) -> None:
    x = torch.linspace(0.0, 1.0, 1000).reshape(500, 2)
    assert torch.allclose(stage(lambda x: x.logsumexp(-1))(x), x.logsumexp(-1))
    assert built == [True]


def test_name_that_small_headers_lack_is_built_with_those_of_torch(
    built: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "_PRELUDE", "\n#error nothing\n")
    x = torch.linspace(0.0, 1.0, 5)
    assert torch.allclose(stage(lambda x: (2 * x).exp())(x), (2 * x).exp())
    assert built == [True, False]


def test_compiler_that_fails_with_both_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))

    def fail(command: list[str], source: Path, target: Path) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="no such thing")

    monkeypatch.setattr(native, "build", fail)
    with pytest.raises(Exception, match="no such thing"):
        stage(lambda x: (3 * x).exp(), mode=True).plan(torch.ones(5))


def test_small_graph_lets_other_threads_run(built: list[bool]) -> None:
    call = stage(lambda x: x.sin().sum())
    call(torch.ones(5))
    results = []
    threads = [threading.Thread(target=lambda: results.append(float(call(torch.ones(5))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == 4 and built == [True]
