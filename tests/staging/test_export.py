from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from brancher.staging import StagingError, export


@pytest.mark.slow
def test_exported_program_runs_without_the_package(tmp_path: Path) -> None:
    weight = torch.tensor([1.0, 2.0])
    path = export(lambda parts: {"y": parts["x"] * weight + 1}, ({"x": torch.zeros(2)},), tmp_path / "f.pt2")
    code = (
        "import sys, torch; "
        f"f = torch.export.load({str(path)!r}).module(); print(f(torch.tensor([3.0, 4.0]))['y'].tolist()); "
        "print('brancher' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split("\n")[:2] == ["[4.0, 9.0]", "False"]


def test_data_dependent_function_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(StagingError, match="depends on a tensor's value"):
        export(lambda x: x if x > 0 else -x, (torch.tensor(1.0),), tmp_path / "f.pt2")
    assert list(tmp_path.iterdir()) == []
