"""Time several sides in one run, alternating, and print and keep a table of medians and ratios."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch

RESULTS = Path(__file__).parent / "results"


def alternate(sides: Mapping[str, Callable[[int], object]], calls: int, rounds: int = 7) -> dict[str, float]:
    """Median microseconds a call of each side.

    Args:
        sides: functions that make the given number of calls and return when the work is done.
        calls: how many calls one round makes.
        rounds: how often each side has its turn; the machine's moods hit all sides alike.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run(max(2, calls // 10))  # first calls check, allocate and fill caches
    for _ in range(rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            run(calls)
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def versions(*packages: str) -> str:
    """The versions that figures depend on, in one line."""
    found = [f"python {platform.python_version()}", f"torch {torch.__version__}"]
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def report(name: str, table: pd.DataFrame, *packages: str) -> None:
    """Print a table and write it to ``benchmarks/results/{name}.md`` with date and versions."""
    text = table.to_string(float_format=lambda x: f"{x:,.2f}")
    head = f"{name}, {date.today()}, {versions(*packages)}, {torch.get_num_threads()} thread(s)"
    print(f"{head}\n{text}\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(f"# {head}\n\n```\n{text}\n```\n")
