"""The first call of NUTS in a fresh process, beside NumPyro's: eight schools, 4 chains of 1000 + 1000 draws.

    python benchmarks/nuts_first.py [--rounds 3] [--models eight_schools_noncentered] [--write]

Each side has processes of its own, alternating: with an empty folder of caches, and with what the first one
has left there. NumPyro keeps nothing on the disk unless JAX is told to; its second process is measured both
ways: as it comes, and with ``JAX_COMPILATION_CACHE_DIR`` set. ``run`` is from the call to the last draw,
``process`` is from before the imports. Seconds on the wall, and seconds of work (of the process and of the
compilers that it starts), which stay sound where others share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DRAWS, CHAINS = 1000, 4
#: Rows of the table: what is shown, the side, whether JAX keeps its programs, which process of a folder.
ROWS = (
    ("brancher, empty cache", "brancher", False, 0),
    ("brancher, second process", "brancher", False, 1),
    ("NumPyro, first process", "numpyro", False, 0),
    ("NumPyro, second process", "numpyro", False, 1),
    ("NumPyro, second process, JAX's cache on", "numpyro", True, 1),
)


def spent() -> tuple[float, float]:
    """Seconds on the wall, and of work."""
    return time.time(), sum(os.times()[:4])


def ours(model: str) -> dict[str, float]:
    """This library, with its defaults."""
    begin = spent()
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    from brancher.infer import MCMC, NUTS

    sys.path.insert(0, str(HERE))
    import nuts_models

    function, args = nuts_models.posteriors()[model]
    imported = spent()
    mcmc = MCMC(NUTS(function), DRAWS, DRAWS, num_chains=CHAINS, seed=1, progress=False)
    mcmc.run(*args)
    mcmc.get_samples()
    return between(begin, imported, spent())


def numpyro(model: str) -> dict[str, float]:
    """NumPyro, its chains in one batch."""
    begin = spent()
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax
    import numpyro as peer

    jax.config.update("jax_enable_x64", True)
    peer.enable_x64()
    sys.path.insert(0, str(HERE))
    from nuts_models_numpyro import MODELS

    args = tuple(jax.numpy.asarray(value) for value in json.loads(os.environ["BRANCHER_BENCH_ARGS"]))
    imported = spent()
    kernel = peer.infer.NUTS(MODELS[model])
    options = {"num_chains": CHAINS, "chain_method": "vectorized", "progress_bar": False}
    mcmc = peer.infer.MCMC(kernel, num_warmup=DRAWS, num_samples=DRAWS, **options)
    mcmc.run(jax.random.PRNGKey(1), *args)
    jax.block_until_ready(mcmc.get_samples())
    return between(begin, imported, spent())


def between(begin: Any, imported: Any, end: Any) -> dict[str, float]:
    """The four figures of a process."""
    return {
        "run, wall": end[0] - imported[0],
        "run, work": end[1] - imported[1],
        "process, wall": end[0] - begin[0],
        "process, work": end[1] - begin[1],
    }


def in_fresh_process(side: str, model: str, folder: str, jax_cache: bool, arguments: str) -> dict[str, float]:
    """What a process finds whose caches lie in a folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment |= {"BRANCHER_CACHE_DIR": folder, "BRANCHER_PRECOMPILE_HEADERS": "0", "OMP_NUM_THREADS": "1"}
    environment |= {"BRANCHER_BENCH_ARGS": arguments, "PYTHONPATH": str(HERE.parent)}
    if jax_cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = folder
    command = [sys.executable, __file__, "--child", side, model]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def data_of(model: str) -> str:
    """The arguments of a model as text, so that NumPyro's process need not import torch."""
    import torch

    torch.set_default_dtype(torch.float64)
    import nuts_models

    args = nuts_models.posteriors()[model][1]
    return json.dumps([value.tolist() if isinstance(value, torch.Tensor) else value for value in args])


def measure(model: str, rounds: int) -> Any:
    """Medians over rounds, a row for each of `ROWS`."""
    import pandas as pd

    arguments = data_of(model)
    found: dict[str, list[dict[str, float]]] = {row[0]: [] for row in ROWS}
    for side in ("brancher", "numpyro"):  # bytecode is written, files are in memory
        with tempfile.TemporaryDirectory() as folder:
            in_fresh_process(side, model, folder, False, arguments)
    for _ in range(rounds):
        for side, jax_cache in (("brancher", False), ("numpyro", False), ("numpyro", True)):
            with tempfile.TemporaryDirectory() as folder:
                runs = [in_fresh_process(side, model, folder, jax_cache, arguments) for _ in range(2)]
            for name, *wanted, process in ROWS:
                if wanted == [side, jax_cache]:
                    found[name].append(runs[process])
    table = pd.DataFrame({name: pd.DataFrame(rows).median() for name, rows in found.items()}).T
    for kind in ("run, wall", "run, work", "process, wall", "process, work"):
        table[f"{kind} / NumPyro's first"] = table[kind] / table.loc["NumPyro, first process", kind]
    return table


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["eight_schools_noncentered"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/nuts_first.md")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, model = options.child
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps({"brancher": ours, "numpyro": numpyro}[side](model)))
        return
    from nuts import versions

    texts = [f"# First call of NUTS\n\n{versions()}, float64, medians of {options.rounds} rounds.\n"]
    for model in options.models:
        table = measure(model, options.rounds).to_string(float_format="{:.2f}".format)
        texts.append(f"{model}, {CHAINS} chains of {DRAWS} + {DRAWS} draws, seconds:\n\n```\n{table}\n```\n")
        print(texts[-1], flush=True)
    if options.write:
        (HERE / "results" / "nuts_first.md").write_text("\n".join(texts))


if __name__ == "__main__":
    main()
