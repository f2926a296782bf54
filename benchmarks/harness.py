"""Time several sides in one run, alternating, and print and keep a table of medians and ratios."""

from __future__ import annotations

import os
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

#: Seconds of this process's own work. On one core that is what a clock on the wall shows where nothing else
#: runs, and it stays the same where something does.
clock = time.process_time

#: Makes so many calls and returns when the work is done; may return its own measure of the seconds.
Side = Callable[[int], "float | None"]


def one_thread() -> None:
    """Pin this process and what it starts to one core, and torch to one thread.

    To be called before JAX is imported, whose pool of threads is as large as the set of cores.
    """
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def timed(run: Side, calls: int) -> float:
    """Seconds of work for a number of calls."""
    start = clock()
    own = run(calls)
    return clock() - start if own is None else own


def alternate(
    sides: Mapping[str, Side], calls: int | None = None, rounds: int = 7, seconds: float = 0.3
) -> dict[str, float]:
    """Median microseconds of work a call of each side; see `clock`.

    Args:
        sides: what to time.
        calls: how many calls one turn makes; None for as many as fill ``seconds``.
        rounds: how often each side has its turn; the machine's moods hit all sides alike.
        seconds: about how long a turn lasts where ``calls`` is left open.
    """
    numbers = {}
    for name, run in sides.items():
        run(3)  # first calls check, compile, allocate and fill caches
        numbers[name] = calls or max(3, int(seconds / (timed(run, 3) / 3)))
        run(max(3, numbers[name] // 10))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            times[name].append(timed(run, numbers[name]) / numbers[name] * 1e6)
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


def report(name: str | None, table: pd.DataFrame, *packages: str, notes: str = "") -> None:
    """Print a table; with a name, write it to ``benchmarks/results/{name}.md`` with date and versions."""
    text = table.to_string(float_format=lambda x: f"{x:,.2f}", na_rep="")
    head = f"{name or 'part'}, {date.today()}, {versions(*packages)}, {torch.get_num_threads()} thread(s)"
    print(f"{head}\n{text}\n{notes}\n")
    if name is None:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(f"# {head}\n\n```\n{text}\n```\n" + (f"\n{notes}\n" if notes else ""))
