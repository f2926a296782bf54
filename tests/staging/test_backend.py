from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from brancher.errors import BrancherWarning
from brancher.staging import backend, is_available, stage
from brancher.staging.emitting import native
from brancher.staging.reasons import StagingError


def test_this_torch_has_every_private_name() -> None:
    assert backend.self_test() == []


def test_self_test_names_what_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backend._NAMES, "torch._inductor.compile_fx", ("compile_fx_outer",))
    monkeypatch.setitem(backend._NAMES, "torch._gone", ("name",))
    assert backend.self_test() == ["torch._inductor.compile_fx.compile_fx_outer", "torch._gone"]


def test_moved_name_is_told_when_the_compiler_fails(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setattr(backend, "lower", lambda *_: (_ for _ in ()).throw(ImportError("gone")))
    monkeypatch.setattr(backend, "self_test", lambda: ["torch._inductor.gone"])
    with pytest.raises(StagingError, match=r"expected torch\._inductor\.gone in torch, got torch .* without"):
        stage(lambda x: x.cosh().sinh().tanh()).plan(torch.zeros(17))


def test_moved_guard_runs_eagerly_with_a_warning(monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    monkeypatch.setattr(backend, "Guard", lambda tensors: torch._C._dynamo.guards.Gone)
    monkeypatch.setattr(backend, "self_test", lambda: ["torch._C._dynamo.guards.Gone"])
    staged = stage(lambda x: x.cosh() + 1)
    with pytest.warns(BrancherWarning, match=r"expected torch\._C\._dynamo\.guards\.Gone in torch"):
        assert float(staged(torch.tensor(0.0))) == 2.0


_POOLING = """
import torch
from brancher.staging.graph import purify, record

def gradient(x):
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(torch.nn.functional.max_pool2d(leaf, 2).sum(), leaf)

x = torch.tensor([[[[1.0, 4.0], [3.0, 2.0]]]])
print(purify(record(gradient, (x,), "gradient"), [x]).graph(x)[0].flatten().tolist())
"""


def test_first_graph_of_a_process_pools_by_the_largest() -> None:
    # What other graphs leave imported would hide that the decomposition lacks a module.
    done = subprocess.run([sys.executable, "-c", _POOLING], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0.0, 1.0, 0.0, 0.0]"


def test_is_available_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert not is_available()


@pytest.mark.parametrize("chosen", ["/nonexistent/g++", "false", "g++ --with-words"])
def test_compiler_that_does_not_run_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: str, chosen: str
) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("BRANCHER_PRECOMPILE_HEADERS", "0")
    monkeypatch.setenv("CXX", chosen)
    staged = stage(lambda x: x.exp().sum() * 3)
    assert float(staged(torch.zeros(2))) == 6.0
    assert (staged.counters.compiles, staged.counters.fallbacks) == (1, 0)


def test_importing_the_package_does_not_import_the_compiler() -> None:
    code = (
        "import sys, brancher.staging; "
        "print([m for m in ('torch._inductor', 'torch._dynamo') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_guard_sees_shape_dtype_stride_and_grad() -> None:
    guard = backend.Guard([torch.zeros(2, 3)])
    assert guard.check(torch.ones(2, 3))
    others = [torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 2).T]
    assert not any(guard.check(other) for other in [*others, torch.zeros(2, 3, requires_grad=True)])


@pytest.mark.parametrize("way", ["library", "general artifact"])
def test_draws_keep_their_order(compiler: str, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    # As in a process where something went through Inductor's front door: it knows more patterns then.
    importlib.import_module("torch._inductor.fx_passes.joint_graph").lazy_init()
    monkeypatch.setenv("BRANCHER_CACHE_DIR", "")
    if way == "general artifact":
        monkeypatch.setattr(native, "library_source", lambda *_: None)

    def spread(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randperm(8)[:3]
        noise = torch.empty(3).normal_()
        return torch.zeros(8).index_add(0, rows, noise * x), rows

    staged, x = stage(spread), torch.tensor([1.0, 2.0, 3.0])
    for seed in range(3):
        torch.manual_seed(seed)
        got = staged(x)
        torch.manual_seed(seed)
        torch.testing.assert_close(got, spread(x))
    assert staged.counters.compiles == 1 and staged.counters.fallbacks == 0


def test_general_artifact_gives_the_same(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The way for other devices and for graphs that call back into Python, forced here on the CPU.
    monkeypatch.setattr(native, "library_source", lambda *_: None)
    staged = stage(lambda x: (x.cos() + torch.rand(3), x))
    x = torch.arange(3.0)
    torch.manual_seed(0)
    plan = staged.plan(x)
    got = plan.build(plan.run([x]))
    torch.manual_seed(0)
    torch.testing.assert_close(got, (x.cos() + torch.rand(3), x))
    assert plan.compiled.library is None


def test_general_artifact_says_nothing_of_files(
    compiler: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "library_source", lambda *_: None)
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: None)
    log = logging.getLogger("torch._inductor.standalone_compile")
    log.addHandler(caplog.handler)
    try:
        assert float(stage(lambda x: x.cos() + 2)(torch.tensor(0.0))) == 3.0
    finally:
        log.removeHandler(caplog.handler)
    assert not caplog.records
