"""Memory over many steps of SVI: resident set and live tensors must stay where they are."""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

import pandas as pd
import torch
from harness import report
from svi_models import MODELS

import brancher
from brancher import distributions as dist
from brancher import optim
from brancher.infer import SVI
from brancher.infer.autoguide import AutoNormal


def resident_mib() -> float:
    """Resident set of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def live_tensors() -> int:
    """How many tensors Python holds."""
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def main() -> None:
    """Print memory at ten moments of the run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    model, args = MODELS["schools"](brancher, dist)
    svi = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.001}))
    rows = []
    for done in range(steps + 1):
        if done % (steps // 10) == 0:
            rows.append({"step": done, "resident [MiB]": resident_mib(), "live tensors": live_tensors()})
        svi.step(*args)
    table = pd.DataFrame(rows).set_index("step")
    report("memory", table, "brancher")
    # The first moments still fill caches; svi.history itself takes 32 bytes a step.
    growth = table["resident [MiB]"].iloc[-1] - table["resident [MiB]"].iloc[2]
    history = 0.8 * steps * 32 / 2**20
    print(f"growth after a fifth of the run: {growth:.1f} MiB, of which history {history:.1f} MiB")


if __name__ == "__main__":
    main()
