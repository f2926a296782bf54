"""The first compiled step of SVI in a fresh process, beside NumPyro's: what has to be paid before the speed.

Two processes each: with empty caches, and with what the first has left on the disk. Seconds of work on one
core, the C++ compiler's among them; imports stand apart.

Run: python benchmarks/cold_start.py [--without-peers]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

from harness import one_thread, report

MODELS = ("schools", "logreg", "sites")


def spent() -> float:
    """Seconds of work of this process and of those that it has started and waited for."""
    return sum(os.times()[:4])


def ours(name: str) -> dict[str, float]:
    """Two steps of SVI: the first one is checked and eager, the second one compiled."""
    begin = spent()
    from svi_models import MODELS as models

    import brancher
    from brancher import distributions as dist
    from brancher import optim
    from brancher.infer import SVI
    from brancher.infer.autoguide import AutoNormal

    imported = spent()
    model, guide, args, _ = models[name](brancher, dist)
    svi = SVI(model, guide or AutoNormal(model), optim.Adam({"lr": 0.01}), compile=True)
    svi.step(*args)
    eager = spent()
    svi.step(*args)
    done = spent()
    counters = svi.compile_counters
    assert counters.fallbacks == 0 and counters.compiles + counters.loads == 1
    return {
        "imports beside torch [s]": imported - begin,
        "first, eager step [s]": eager - imported,
        "first compiled step [s]": done - imported,
    }


def numpyro(name: str) -> dict[str, float]:
    """``svi.init`` and one jitted update."""
    begin = spent()
    import jax
    import svi_models_numpyro as peer

    imported = spent()
    svi, args = peer.make(name)
    state = svi.init(jax.random.PRNGKey(0), *args)
    _, loss = jax.jit(svi.update)(state, *args)
    float(loss)
    return {"imports beside torch [s]": imported - begin, "first compiled step [s]": spent() - imported}


def in_fresh_process(side: str, name: str, folder: str) -> dict[str, float]:
    """What a process finds whose caches lie in a folder."""
    caches = {
        "BRANCHER_CACHE_DIR": folder,
        "BRANCHER_PRECOMPILE_HEADERS": "0",
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, __file__, "--child", side, "--only", name]
    done = subprocess.run(command, env={**os.environ, **caches}, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a row for each side, model and process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", choices=("brancher", "NumPyro"))
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-peers", action="store_true")
    options = parser.parse_args()
    one_thread()
    if options.child:
        print(json.dumps((ours if options.child == "brancher" else numpyro)(options.only)))
        return
    import pandas as pd

    sides = ["brancher"] if options.without_peers else ["brancher", "NumPyro"]
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for name in options.only.split(","):
            for side in sides:
                with tempfile.TemporaryDirectory() as folder:
                    for process in ("cold", "second process"):
                        row = in_fresh_process(side, name, folder)
                        found.setdefault((name, process, side), []).append(row)
    table = pd.DataFrame({key: pd.DataFrame(rows).median() for key, rows in found.items()}).T
    table.index.names = ["model", "process", "side"]
    if not options.without_peers:
        first = table["first compiled step [s]"]
        peer = [first[(name, "cold", "NumPyro")] for name, *_ in table.index]
        table["/ NumPyro, cold"] = first / peer
    part = "" if options.only == ",".join(MODELS) else "_" + options.only.replace(",", "_")
    name = None if options.without_peers else f"cold_start{part}"
    report(name, table, "brancher", "numpyro", "jax")


if __name__ == "__main__":
    main()
