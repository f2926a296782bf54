"""One step of SVI: this library against hand-written eager torch and, where installed, Pyro."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from harness import alternate, report
from svi_models import MODELS, ByHand

import brancher
from brancher import distributions as dist
from brancher import optim
from brancher.infer import SVI
from brancher.infer.autoguide import AutoNormal


def repeat(step: Callable[..., Any], *args: Any) -> Callable[[int], None]:
    """A function that makes the given number of steps."""

    def run(calls: int) -> None:
        for _ in range(calls):
            step(*args)

    return run


def ours(name: str) -> Callable[[int], None]:
    """Eager ``SVI.step`` with AutoNormal."""
    model, args = MODELS[name](brancher, dist)
    return repeat(SVI(model, AutoNormal(model), optim.Adam({"lr": 0.01})).step, *args)


def pyro(name: str, validate: bool) -> Callable[[int], None]:
    """Pyro's ``SVI.step`` with AutoNormal."""
    import pyro as peer
    from pyro import distributions as peer_dist
    from pyro import infer
    from pyro import optim as peer_optim

    model, args = MODELS[name](peer, peer_dist)
    guide = infer.autoguide.AutoNormal(model)
    svi = infer.SVI(model, guide, peer_optim.Adam({"lr": 0.01}), infer.Trace_ELBO())

    def run(calls: int) -> None:
        peer.enable_validation(validate)
        for _ in range(calls):
            svi.step(*args)

    return run


def main() -> None:
    """Print microseconds a step and their ratio to hand-written torch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", action="store_true", help="time Pyro as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name in MODELS:
        sides = {"by hand": repeat(ByHand(name).step), "brancher": ours(name)}
        if options.peers:
            sides |= {"pyro": pyro(name, True), "pyro, no validation": pyro(name, False)}
        times = alternate(sides, options.calls, options.rounds)
        rows[name] = {f"{side} [us]": value for side, value in times.items()}
        rows[name] |= {
            f"{side} / by hand": value / times["by hand"]
            for side, value in times.items()
            if side != "by hand"
        }
    report("svi_step", pd.DataFrame(rows).T, "brancher", "pyro-ppl")


if __name__ == "__main__":
    main()
