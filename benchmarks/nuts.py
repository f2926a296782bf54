"""NUTS on eight posteriors of posteriordb and a hierarchical model, beside NumPyro, nutpie and Pyro.

    python benchmarks/nuts.py [--chains 1 4] [--models arK ...] [--libraries brancher numpyro ...] [--write]

Every (library, model, chains) runs in a process of its own, one after the other, on one core where the system
can pin one. ``first`` is the wall time of 1000 + 1000 draws from before the import to the last draw,
compilation included. ``cpu`` is the processor time of 4000 more draws from the adapted chains, nothing
compiled; the smallest bulk ESS of the flat unconstrained draws is divided by it. Processor time, because
others may share the machine. ``ratio`` is this library's ESS per second over that of the row.

nutpie samples this library's density, compiled, through its Python interface; its ``cpu`` is the share of the
whole run that its draws' gradients have. Pyro has few draws (200 + 200), on eight schools alone.
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
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODELS = (
    "arK",
    "logearn_interaction_z",
    "kidscore_interaction",
    "eight_schools_noncentered",
    "garch11",
    "gp_regr",
    "hmm_example",
    "low_dim_gauss_mix",
    "groups",
)
DRAWS, TIMED = 1000, 4000


def min_ess(draws: Any) -> float:
    """Smallest bulk effective sample size of ``(chains, draws, dim)``."""
    import torch

    from brancher.infer.diagnostics import ess_bulk

    return float(ess_bulk(torch.as_tensor(draws)).min())


def run_brancher(
    model: str,
    chains: int,
    begin: float,
    warmup: int = DRAWS,
    count: int = DRAWS,
    timed: int = TIMED,
    kernel: str = "NUTS",
) -> dict[str, float]:
    """Measure this library."""
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    sys.path.insert(0, str(HERE))
    import nuts_models

    from brancher.infer import mcmc as kernels

    chosen = nuts_models.posteriors() | {"groups": (nuts_models.groups, nuts_models.group_data())}
    function, args = chosen[model]
    chosen_kernel = getattr(kernels, kernel)(function)
    mcmc = kernels.MCMC(chosen_kernel, count, warmup, num_chains=chains, seed=1, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcmc.run(*args)
    first = time.time() - begin
    sampler = mcmc._samplers[0]
    cpu, wall = time.process_time(), time.perf_counter()
    sampler.run(count + timed)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    draws, stats = sampler.draws()
    gradients = float(stats[:, count:, 1].sum())
    return {
        "first": first,
        "cpu": cpu,
        "wall": wall,
        "gradients": gradients,
        "ess": min_ess(draws[:, count:]),
    }


def run_numpyro(
    model: str,
    chains: int,
    begin: float,
    warmup: int = DRAWS,
    count: int = DRAWS,
    timed: int = TIMED,
    kernel: str = "NUTS",
) -> dict[str, float]:
    """Measure NumPyro: ``MCMC.run`` for the first call, a compiled scan of its kernel for the rest."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax
    import numpyro

    jax.config.update("jax_enable_x64", True)
    numpyro.enable_x64()
    sys.path.insert(0, str(HERE))
    from nuts_models_numpyro import MODELS as models

    args = numpyro_args(model)
    sampler = getattr(numpyro.infer, kernel)(models[model])
    options = {"num_chains": chains, "chain_method": "vectorized", "progress_bar": False}
    mcmc = numpyro.infer.MCMC(sampler, num_warmup=warmup, num_samples=count, **options)
    mcmc.run(jax.random.PRNGKey(1), *args, extra_fields=("num_steps",))
    jax.block_until_ready(mcmc.last_state)
    first = time.time() - begin

    return {"first": first, **more_of_numpyro(sampler, mcmc.last_state, args, chains, timed)}


def more_of_numpyro(sampler: Any, state: Any, args: Any, chains: int, timed: int) -> dict[str, float]:
    """Go on from a state with a compiled scan of the kernel."""
    import jax
    import numpy as np

    def more(state: Any) -> Any:
        def one(state: Any, _: Any) -> Any:
            state = sampler.sample(state, args, {})
            return state, (state.z, state.num_steps)

        return jax.lax.scan(one, state, None, length=timed)

    compiled = jax.jit(more)
    state, _ = jax.block_until_ready(compiled(state))
    cpu, wall = time.process_time(), time.perf_counter()
    state, (z, steps) = jax.block_until_ready(compiled(state))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    shape = (timed, chains, -1)
    flat = np.concatenate([np.asarray(v).reshape(shape) for v in jax.tree.leaves(z)], -1).swapaxes(0, 1)
    return {
        "cpu": cpu,
        "wall": wall,
        "gradients": float(steps.sum()),
        "ess": min_ess(flat.copy()),
    }


def numpyro_args(model: str) -> tuple[Any, ...]:
    """The data of a model as JAX arrays."""
    import jax.numpy as jnp
    import torch

    torch.set_default_dtype(torch.float64)
    import nuts_models

    chosen = nuts_models.posteriors() | {"groups": (nuts_models.groups, nuts_models.group_data())}
    return tuple(jnp.asarray(a.numpy()) if isinstance(a, torch.Tensor) else a for a in chosen[model][1])


def run_pyro(model: str, chains: int, begin: float) -> dict[str, float]:
    """Measure Pyro on eight schools with few draws; its chains run one after the other."""
    import pyro
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    sys.path.insert(0, str(HERE))
    import nuts_models

    pyro.set_rng_seed(1)
    y, scale = nuts_models.posteriors()["eight_schools_noncentered"][1]

    def schools() -> None:
        mu = pyro.sample("mu", pyro.distributions.Normal(0.0, 5.0))
        tau = pyro.sample("tau", pyro.distributions.HalfCauchy(5.0))
        with pyro.plate("school", len(y)):
            z = pyro.sample("theta_trans", pyro.distributions.Normal(0.0, 1.0))
            pyro.sample("y", pyro.distributions.Normal(mu + tau * z, scale), obs=y)

    kernel = pyro.infer.NUTS(schools, jit_compile=True, ignore_jit_warnings=True)
    moments: list[float] = []
    hook = lambda *_: moments.append(time.process_time())  # noqa: E731
    mcmc = pyro.infer.MCMC(kernel, 200, warmup_steps=200, disable_progbar=True, hook_fn=hook)
    mcmc.run()
    cpu = moments[-1] - moments[199]
    draws = torch.cat([v.reshape(1, 200, -1) for v in mcmc.get_samples(group_by_chain=True).values()], -1)
    nothing = math.nan
    return {"first": nothing, "cpu": cpu, "wall": nothing, "gradients": nothing, "ess": min_ess(draws)}


def run_nutpie(model: str, chains: int, begin: float) -> dict[str, float]:
    """Measure nutpie on this library's compiled density."""
    import numpy as np
    import nutpie
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    sys.path.insert(0, str(HERE))
    import nuts_models

    from brancher.infer import FlatDensity

    function, args = (nuts_models.posteriors() | {"groups": (nuts_models.groups, nuts_models.group_data())})[
        model
    ]
    density = FlatDensity(function, args)
    compiled = nutpie.compiled_pyfunc.from_pyfunc(
        ndim=density.dim,
        make_logp_fn=lambda: density,
        make_expand_fn=lambda *_: lambda flat: {"flat": flat.copy()},
        expanded_dtypes=[np.dtype("float64")],
        expanded_shapes=[(density.dim,)],
        expanded_names=["flat"],
        make_initial_point_fn=density.initial,
    )
    options = {"tune": DRAWS, "chains": chains, "cores": 1, "seed": 1, "progress_bar": False}
    nutpie.sample(compiled, draws=10, **options | {"tune": 10})
    cpu, wall = time.process_time(), time.perf_counter()
    found = nutpie.sample(compiled, draws=TIMED, save_warmup=True, **options)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    steps = float(np.asarray(found.sample_stats["n_steps"]).sum())
    share = steps / (steps + float(np.asarray(found.warmup_sample_stats["n_steps"]).sum()))
    draws = np.asarray(found.posterior["flat"]).copy()
    spent = {"cpu": cpu * share, "wall": wall * share}
    return {"first": math.nan, **spent, "gradients": steps, "ess": min_ess(draws)}


RUNNERS = {"brancher": run_brancher, "numpyro": run_numpyro, "nutpie": run_nutpie, "pyro": run_pyro}


def measure(script: str, *what: str) -> dict[str, float] | None:
    """Run one measurement of a script, ``--one`` and what it is of, in a process of its own."""
    pin = ["taskset", "-c", "0"] if platform.system() == "Linux" else []
    command = [*pin, sys.executable, script, "--one", *what]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        print(done.stderr[-1500:], file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def geometric_mean(values: list[float]) -> float:
    """Geometric mean, or NaN of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def versions() -> str:
    """What was measured."""
    from importlib.metadata import version

    names = ("torch", "numpyro", "jax", "nutpie", "pyro-ppl")
    return f"{time.strftime('%Y-%m-%d')}, " + ", ".join(f"{name} {version(name)}" for name in names)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--libraries", nargs="*", default=list(RUNNERS))
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/nuts.md")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        library, model, chains = options.one
        print(json.dumps(RUNNERS[library](model, int(chains), time.time())))
        return
    text = "\n".join(table(options.chains, options.models, options.libraries))
    if options.write:
        (HERE / "results" / "nuts.md").write_text(f"# NUTS\n\n{versions()}, float64, one core.\n\n{text}\n")


def table(chain_counts: list[int], models: list[str], libraries: list[str]) -> list[str]:
    """Measure everything; lines of a Markdown table, printed as they come."""
    head = "| model | chains | library | first s | cpu s | us/gradient | gradients/draw | min ESS | ESS/s |"
    lines: list[str] = []

    def emit(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    emit(head + " ratio |")
    emit("|---" * 10 + "|")
    for chains in chain_counts:
        ratios: dict[str, list[float]] = {library: [] for library in libraries[1:]}
        for model in models:
            base: float | None = None
            for library in libraries:
                if library == "pyro" and (model != "eight_schools_noncentered" or chains != 1):
                    continue
                found = measure(__file__, library, model, str(chains))
                if found is None:
                    emit(f"| {model} | {chains} | {library} | failed |")
                    continue
                rate = found["ess"] / found["cpu"]
                base = rate if library == "brancher" else base
                ratio = (base or math.nan) / rate
                if library in ratios:
                    ratios[library].append(ratio)
                each, per_draw = 1e6 * found["cpu"] / found["gradients"], found["gradients"] / chains / TIMED
                emit(
                    f"| {model} | {chains} | {library} | {found['first']:.1f} | {found['cpu']:.3f} | "
                    f"{each:.2f} | {per_draw:.1f} | {found['ess']:.0f} | {rate:.0f} | {ratio:.2f} |".replace(
                        " nan ", " "
                    )
                )
        for library, values in ratios.items():
            mean = f"{geometric_mean(values):.2f}"
            emit(f"| geometric mean | {chains} | {libraries[0]} / {library} | | | | | | | {mean} |")
    return lines


if __name__ == "__main__":
    main()
