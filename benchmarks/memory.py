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
from brancher import ParamStore, optim
from brancher import distributions as dist
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


def measure(way: str, steps: int) -> dict[str, float]:
    """Memory after a fifth of the steps, and at the end."""
    model, _, args, _ = MODELS["schools"](brancher, dist)
    compile = way != "eager"
    svi = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.001}), store=ParamStore(), compile=compile)
    found = []
    for part in (steps // 5, steps - steps // 5):
        if way == "run":
            svi.run(part, *args, progress=False)
        else:
            for _ in range(part):
                svi.step(*args)
        found.append((resident_mib(), live_tensors()))
    (first, before), (last, after) = found
    return {
        "resident [MiB]": last,
        "growth [MiB]": last - first,
        "live tensors": after,
        "growth of live tensors": after - before,
    }


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    table = pd.DataFrame({way: measure(way, steps) for way in ("eager", "compiled", "run")}).T
    # The first moments still fill caches; svi.history itself takes 32 bytes a step.
    history = 0.8 * steps * 32 / 2**20
    notes = (
        f"Growth is after a fifth of {steps:,} steps; the history of losses takes {history:.1f} MiB of it."
    )
    report("memory", table, "brancher", notes=notes)


if __name__ == "__main__":
    main()
