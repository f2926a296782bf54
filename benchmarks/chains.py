"""Many chains at once: NUTS and ChEES beside NumPyro's vectorised NUTS.

    python benchmarks/chains.py [--chains 1 4 64 512] [--models eight_schools_noncentered groups] [--write]

Every measurement runs in a process of its own on one core. After 500 draws of warmup and 200 more, ``cpu`` is
the processor time of the next 200 draws of every chain, nothing compiled; the smallest bulk ESS of the flat
unconstrained draws is divided by it. The 50-group model has 300 + 50 and 50 draws: NumPyro's chains wait for
the longest tree of all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import nuts

HERE = Path(__file__).parent
WARMUP, COUNT = 500, 200
FEWER = {"groups": (300, 50)}  # NumPyro takes more than half an hour for as many as above, with 512 chains
SIDES = (("brancher", "NUTS"), ("brancher", "ChEES"), ("numpyro", "NUTS"))
RUNNERS = {"brancher": nuts.run_brancher, "numpyro": nuts.run_numpyro}


def draws_of(model: str) -> tuple[int, int]:
    """Draws of warmup, and of the measurement."""
    return FEWER.get(model, (WARMUP, COUNT))


def measure(library: str, kernel: str, model: str, chains: int) -> dict[str, float] | None:
    """Run one measurement in a process of its own."""
    pin = ["taskset", "-c", "0"] if platform.system() == "Linux" else []
    command = [*pin, sys.executable, __file__, "--one", library, kernel, model, str(chains)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        print(done.stderr[-1500:], file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(chain_counts: list[int], models: list[str]) -> list[str]:
    """Measure everything; lines of a Markdown table, printed as they come."""
    lines: list[str] = []

    def emit(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    emit(
        "| model | chains | library | kernel | first s | cpu s | us/gradient | min ESS | ESS/s | best ratio |"
    )
    emit("|---" * 10 + "|")
    for model in models:
        for chains in chain_counts:
            rates: dict[str, list[float]] = {"brancher": [], "numpyro": []}
            for library, kernel in SIDES:
                if kernel == "ChEES" and chains < 4:
                    continue  # it learns from chains together
                found = measure(library, kernel, model, chains)
                if found is None:
                    emit(f"| {model} | {chains} | {library} | {kernel} | failed |")
                    continue
                rate = found["ess"] / found["cpu"]
                rates[library].append(rate)
                last = (library, kernel) == SIDES[-1] and rates["brancher"]
                ratio = f"{max(rates['brancher']) / rate:.2f}" if last else ""
                each = 1e6 * found["cpu"] / found["gradients"]
                emit(
                    f"| {model} | {chains} | {library} | {kernel} | {found['first']:.1f} | "
                    f"{found['cpu']:.3f} | {each:.2f} | {found['ess']:.0f} | {rate:.0f} | {ratio} |"
                )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, nargs="*", default=[1, 4, 64, 512])
    parser.add_argument("--models", nargs="*", default=["eight_schools_noncentered", "groups"])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/chains.md")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        library, kernel, model, chains = options.one
        warmup, count = draws_of(model)
        found = RUNNERS[library](model, int(chains), time.time(), warmup, count, count, kernel)
        print(json.dumps({name: value for name, value in found.items() if not math.isnan(value)}))
        return
    text = "\n".join(table(options.chains, options.models))
    if options.write:
        head = f"# Chains\n\n{nuts.versions()}, float64, one core."
        (HERE / "results" / "chains.md").write_text(f"{head}\n\n{text}\n")


if __name__ == "__main__":
    main()
