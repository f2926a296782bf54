from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from brancher.staging import cache, stage
from brancher.staging.compiled import fingerprint
from brancher.staging.graph import record

_PROGRAM = """
import sys, torch
from brancher.staging import stage
torch.set_num_threads(1)
staged = stage(lambda x: {body})
print(staged(torch.tensor(2.0)).item(), staged.counters.compiles, staged.counters.loads,
      "torch._inductor.compile_fx" in sys.modules)
"""


def _run(body: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(body=body)], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.slow
def test_second_process_loads_and_imports_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("BRANCHER_PRECOMPILE_HEADERS", "0")
    first, second, other = _run("x * x + 1"), _run("x * x + 1"), _run("x * x + 2")
    assert first[:3] == ["5.0", "1", "0"]
    assert second[:3] == ["5.0", "0", "1"]
    assert second[3] == "False"
    assert other[:3] == ["6.0", "1", "0"]


def test_fingerprint_differs_by_constant_and_repeats_for_the_same() -> None:
    def text(by: float) -> str:
        return fingerprint(record(lambda x: x * by, (torch.zeros(2),), "f").graph)

    assert text(2.0) == text(2.0) != text(3.0)


def test_empty_setting_switches_the_cache_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", "")
    assert cache.directory() is None


def test_damaged_facts_are_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    (tmp_path / "k.so").write_bytes(b"")
    (tmp_path / "k.json").write_text("{")
    assert cache.load("k") is None


def test_damaged_library_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("BRANCHER_PRECOMPILE_HEADERS", "0")
    monkeypatch.setattr(cache, "load", lambda key: (tmp_path / "cut.so", {"outputs": 1, "writes": []}))
    (tmp_path / "cut.so").write_bytes(b"\x7fELF")
    staged = stage(lambda x: x * 3)
    assert float(staged(torch.tensor(2.0))) == 6.0
    assert (staged.counters.compiles, staged.counters.loads) == (1, 0)


def test_stored_facts_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    (tmp_path / "k.so").write_bytes(b"")
    cache.store("k", tmp_path, {"outputs": 2})
    assert cache.load("k") == (tmp_path / "k.so", {"outputs": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k.json", "k.so"]


@pytest.mark.parametrize("damage", [lambda text: text[:1], lambda text: "[]", lambda text: '{"outputs": 2}'])
def test_odd_facts_are_a_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[str], str]
) -> None:
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    (tmp_path / "k.so").write_bytes(b"")
    cache.store("k", tmp_path, {"outputs": 2})
    facts = tmp_path / "k.json"
    facts.write_text(damage(facts.read_text()))
    assert cache.load("k") is None


def test_library_cut_short_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading one ends the process with a bus error.
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    (tmp_path / "k.so").write_bytes(b"whole")
    cache.store("k", tmp_path, {})
    (tmp_path / "k.so").write_bytes(b"who")
    assert cache.load("k") is None


def test_without_a_cache_no_folder_outlives_the_process(tmp_path):
    program = "from brancher.staging import cache; assert cache.scratch().name.startswith('brancher-')"
    settings = {**os.environ, "BRANCHER_CACHE_DIR": "", "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=settings)
    assert list(tmp_path.glob("brancher-*")) == []
