"""Many chains at once: NUTS and ChEES beside NumPyro's vectorised NUTS.

    python benchmarks/chains.py [--chains 1 4 64 512] [--models eight_schools_noncentered groups] [--write]

Every measurement runs in a process of its own on one core. After 500 draws of warmup and 200 more, ``cpu`` is
the processor time of the next 200 draws of every chain, nothing compiled; the smallest bulk ESS of the flat
unconstrained draws is divided by it. NumPyro's many
chains start at the draws of four that it has warmed up, with their step size and mass: their own warmup, in
which every chain waits for the longest tree of all, takes it more than half an hour on the 50-group model.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import nuts

HERE = Path(__file__).parent
WARMUP, COUNT = 500, 200
WARM_CHAINS = 4
SIDES = (("brancher", "NUTS"), ("brancher", "ChEES"), ("numpyro", "NUTS"))


def run_numpyro(
    model: str, chains: int, begin: float, warmup: int, count: int, timed: int, kernel: str
) -> dict[str, float]:
    """NumPyro with step size and mass of four chains that were warmed up, starting at their draws."""
    if chains <= WARM_CHAINS:
        return nuts.run_numpyro(model, chains, begin, warmup, count, timed, kernel)
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax
    import numpyro

    jax.config.update("jax_enable_x64", True)
    numpyro.enable_x64()
    sys.path.insert(0, str(HERE))
    from nuts_models_numpyro import MODELS as models

    args = nuts.numpyro_args(model)
    shape = {"chain_method": "vectorized", "progress_bar": False}
    few = numpyro.infer.MCMC(
        numpyro.infer.NUTS(models[model]),
        num_warmup=2 * warmup,
        num_samples=chains // WARM_CHAINS,
        num_chains=WARM_CHAINS,
        **shape,
    )
    few.run(jax.random.PRNGKey(1), *args)
    adapted = few.last_state.adapt_state
    starts = jax.vmap(lambda draw: numpyro.infer.util.unconstrain_fn(models[model], args, {}, draw))(
        few.get_samples()
    )
    still = numpyro.infer.NUTS(
        models[model],
        step_size=float(adapted.step_size.mean()),
        inverse_mass_matrix={names: value.mean(0) for names, value in adapted.inverse_mass_matrix.items()},
        adapt_step_size=False,
        adapt_mass_matrix=False,
    )
    many = numpyro.infer.MCMC(still, num_warmup=0, num_samples=count, num_chains=chains, **shape)
    many.run(jax.random.PRNGKey(2), *args, init_params=starts)
    jax.block_until_ready(many.last_state)
    return {"first": math.nan, **nuts.more_of_numpyro(still, many.last_state, args, chains, timed)}


RUNNERS = {"brancher": nuts.run_brancher, "numpyro": run_numpyro}


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
                found = nuts.measure(__file__, library, kernel, model, str(chains))
                if found is None:
                    emit(f"| {model} | {chains} | {library} | {kernel} | failed |")
                    continue
                rate = found["ess"] / found["cpu"]
                rates[library].append(rate)
                last = (library, kernel) == SIDES[-1] and rates["brancher"]
                ratio = f"{max(rates['brancher']) / rate:.2f}" if last else ""
                each = 1e6 * found["cpu"] / found["gradients"]
                emit(
                    f"| {model} | {chains} | {library} | {kernel} | {found.get('first', math.nan):.1f} | "
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
        found = RUNNERS[library](model, int(chains), time.time(), WARMUP, COUNT, COUNT, kernel)
        print(json.dumps({name: value for name, value in found.items() if not math.isnan(value)}))
        return
    text = "\n".join(table(options.chains, options.models))
    if options.write:
        head = f"# Chains\n\n{nuts.versions()}, float64, one core."
        (HERE / "results" / "chains.md").write_text(f"{head}\n\n{text}\n")


if __name__ == "__main__":
    main()
