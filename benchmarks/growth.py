"""How a step of SVI grows: with sites, with rows of data, with the length of a series, with particles.

Microseconds of work a step, eager, compiled, and in a compiled run, and the seconds of work until the first
compiled step, from tracing to the compiler's end.

Run: python benchmarks/growth.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from typing import Any

from harness import alternate, one_thread, report

one_thread()

import pandas as pd  # noqa: E402
import svi_models  # noqa: E402

import brancher  # noqa: E402
from brancher import ParamStore, optim  # noqa: E402
from brancher import distributions as dist  # noqa: E402
from brancher.infer import SVI, Trace_ELBO  # noqa: E402
from brancher.infer.autoguide import AutoNormal  # noqa: E402

Make = Callable[[int], svi_models.Problem]

#: What grows: how to make a problem of a size, and the sizes.
GROWTH: dict[str, tuple[Make, list[int]]] = {
    "sites": (lambda n: svi_models.sites(brancher, dist, n), [5, 20, 100, 400]),
    "rows of data": (lambda n: svi_models.logreg(brancher, dist, n), [100, 10_000, 1_000_000]),
    "length of a series": (lambda n: svi_models.autoregression(brancher, dist, n, 1), [10, 100, 300, 1000]),
    "particles": (lambda n: svi_models.autoregression(brancher, dist, 20, n), [1, 10, 100, 1000]),
}


def fitted(problem: svi_models.Problem, compile: bool) -> Any:
    """An SVI of the problem; the same seed for both."""
    guide = problem.guide or AutoNormal(problem.model)
    elbo = Trace_ELBO(num_particles=problem.particles)
    return SVI(problem.model, guide, optim.Adam({"lr": 0.01}), elbo, store=ParamStore(), compile=compile)


def work() -> float:
    """Seconds of work so far, of this process and of the compilers that it has waited for."""
    return sum(os.times()[:4])


def measure(problem: svi_models.Problem) -> dict[str, float]:
    """Microseconds a step of each way, and the seconds of compiling."""
    eager, compiled, run = fitted(problem, False), fitted(problem, True), fitted(problem, True)
    compiled.step(*problem.args)
    begin = work()
    compiled.step(*problem.args)
    seconds = work() - begin
    run.step(*problem.args)
    run.step(*problem.args)

    def steps(svi: Any) -> Callable[[int], None]:
        return lambda calls: [svi.step(*problem.args) for _ in range(calls)] and None

    sides = {
        "eager [us]": steps(eager),
        "compiled [us]": steps(compiled),
        "run [us]": lambda calls: run.run(calls, *problem.args, progress=False) is None or None,
    }
    times = alternate(sides, rounds=3, seconds=0.2)
    return {
        **times,
        "compiled / eager": times["compiled [us]"] / times["eager [us]"],
        "compiling [s]": seconds,
    }


def main() -> None:
    """Print a row for each size of what grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes of each")
    quick = parser.parse_args().quick
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BRANCHER_CACHE_DIR"] = folder  # what an earlier run has compiled would cost nothing
        for what, (make, sizes) in GROWTH.items():
            for size in sizes[:2] if quick else sizes:
                rows[what, size] = measure(make(size))
                table = pd.DataFrame(rows).T
                table.index.names = ["what grows", "size"]
                report(None if quick else "growth", table, "brancher")


if __name__ == "__main__":
    main()
