"""Every error is still an error under ``python -O``, which drops assertions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent
FOLDERS = ["handlers", "primitives", "params", "optim", "infer/elbo", "infer/test_svi.py", "infer/autoguide"]


def test_errors_and_warnings_do_not_depend_on_assertions():
    # pytest.raises and pytest.warns still check under -O; the asserts of those tests do not.
    present = [str(ROOT / folder) for folder in FOLDERS if (ROOT / folder).exists()]
    command = [
        sys.executable,
        "-O",
        "-m",
        "pytest",
        "-q",
        "-k",
        "error or warns",
        "-W",
        "ignore::pytest.PytestConfigWarning",
    ]
    command += ["-p", "no:cacheprovider", "--rootdir", str(ROOT.parent), *present]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT.parent, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
