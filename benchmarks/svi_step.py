"""One step of SVI: this library beside hand-written eager torch, Pyro and NumPyro.

Every side draws, takes the loss and its gradient, does one update of Adam and reads the loss, in turns, on
one core. NumPyro's ``run`` is the slope of two lengths, its compilation left out, as ours is.

Run: python benchmarks/svi_step.py [--only schools,logreg] [--without-peers]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from harness import Side, alternate, one_thread, report

one_thread()

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from svi_by_hand import BY_HAND  # noqa: E402
from svi_models import MODELS  # noqa: E402

import brancher  # noqa: E402
from brancher import ParamStore, optim  # noqa: E402
from brancher import distributions as dist  # noqa: E402
from brancher.infer import SVI, Trace_ELBO  # noqa: E402
from brancher.infer.autoguide import AutoNormal  # noqa: E402

#: Steps of NumPyro's longer run: enough for its compilation, which varies by 0.1 s, to drop out. That of the
#: autoregression takes two minutes each time; it is left out, and so is the VAE's.
SLOPE = {"schools": 100_000, "logreg": 50_000, "sites": 50_000}

#: Where Pyro's jitted ELBO stops with an error about its own parameters.
NO_JIT = ("autoregression", "vae")

NOTES = (
    "Microseconds of work on one core, medians of several turns. By hand: plain torch, torch.optim.Adam.\n"
    "Run: many steps in one call; NumPyro's run is the slope of two lengths, without its compilation."
)

#: (quantity, side, side it is compared with)
RATIOS = [
    ("eager / by hand", "eager", "by hand"),
    ("compiled / by hand", "compiled", "by hand"),
    ("compiled / eager", "compiled", "eager"),
    ("compiled / NumPyro", "compiled", "NumPyro"),
    ("run / NumPyro run", "run", "NumPyro run"),
    ("Pyro / compiled", "Pyro", "compiled"),
    ("Pyro jit / compiled", "Pyro jit", "compiled"),
]


def repeat(step: Callable[..., Any], *args: Any) -> Side:
    """A side that makes the given number of steps."""

    def run(calls: int) -> None:
        for _ in range(calls):
            step(*args)

    return run


def ours(name: str, way: str) -> Side:
    """``SVI.step`` eager or compiled, or ``SVI.run`` compiled."""
    model, guide, args, particles = MODELS[name](brancher, dist)
    elbo = Trace_ELBO(num_particles=particles)
    guide = guide or AutoNormal(model)
    svi = SVI(model, guide, optim.Adam({"lr": 0.001}), elbo, store=ParamStore(), compile=way != "eager")
    if way != "run":
        return repeat(svi.step, *args)

    def run(calls: int) -> None:
        svi.run(calls, *args, progress=False)

    return run


def pyro(name: str, kind: str) -> Side:
    """Pyro's ``SVI.step``: its default, without validation, or with the jitted ELBO."""
    import pyro as peer
    from pyro import distributions as peer_dist
    from pyro import infer

    peer_dist.constraints = torch.distributions.constraints  # the same names for both
    peer.clear_param_store()
    model, guide, args, particles = MODELS[name](peer, peer_dist)
    elbo = infer.JitTrace_ELBO if kind == "jit" else infer.Trace_ELBO
    options = {"num_particles": particles, "vectorize_particles": particles > 1, "max_plate_nesting": 1}
    loss = elbo(**options, **({"ignore_jit_warnings": True} if kind == "jit" else {}))
    guide = guide or infer.autoguide.AutoNormal(model)
    svi = infer.SVI(model, guide, peer.optim.Adam({"lr": 0.001}), loss)

    def run(calls: int) -> None:
        peer.enable_validation(kind == "default")
        torch.distributions.Distribution.set_default_validate_args(kind == "default")
        for _ in range(calls):
            svi.step(*args)
        torch.distributions.Distribution.set_default_validate_args(True)

    return run


def numpyro(name: str) -> dict[str, Side]:
    """NumPyro's jitted step and its run."""
    import svi_models_numpyro as peer

    found: dict[str, Side] = {"NumPyro": peer.stepper(name)}
    if name in SLOPE:
        slope = peer.runner(name)
        # Each length compiles anew, so the turns that only warm up are left out.
        found["NumPyro run"] = lambda calls: slope(calls) if calls == SLOPE[name] else 0.0
    return found


def measure(name: str, peers: bool, rounds: int) -> dict[str, float]:
    """Microseconds a step of every side for one model, and the ratios."""
    sides = {"by hand": repeat(BY_HAND[name]())}
    sides |= {way: ours(name, way) for way in ("eager", "compiled", "run")}
    times = {}
    if peers:
        sides |= {"Pyro": pyro(name, "default"), "Pyro unvalidated": pyro(name, "unvalidated")}
        if name not in NO_JIT:
            sides |= {"Pyro jit": pyro(name, "jit")}
        other = numpyro(name)
        sides["NumPyro"] = other["NumPyro"]
        if name in SLOPE:  # it costs seconds a turn and compares with `run` alone
            pair = {"run": sides["run"], "NumPyro run": other["NumPyro run"]}
            times = alternate(pair, SLOPE[name], rounds=3)
    times = {**alternate(sides, rounds=rounds), **times}
    table = {f"{side} [us]": value for side, value in times.items()}
    ratios = {text: times[a] / times[b] for text, a, b in RATIOS if a in times and b in times}
    return {**table, **ratios}


def main() -> None:
    """Print microseconds a step and ratios, a column a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(MODELS), help="models, with commas between")
    parser.add_argument("--without-peers", action="store_true", help="leave Pyro and NumPyro out")
    options = parser.parse_args()
    chosen = options.only.split(",")
    part = "" if set(chosen) == set(MODELS) else "_" + "_".join(chosen)
    file = None if options.without_peers else f"svi_step{part}"
    columns = {}
    for name in chosen:  # the table is kept model by model: some take minutes
        columns[name] = measure(name, not options.without_peers, options.rounds)
        report(file, pd.DataFrame(columns), "brancher", "pyro-ppl", "numpyro", "jax", notes=NOTES)


if __name__ == "__main__":
    main()
