"""1000 posterior predictive draws: ours beside Pyro's, in a loop and as a batch.

"hierarchical" allows a batch dimension on the left; "matrix" (x @ w) does not.

Run: python benchmarks/predictive.py
"""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as pyro_dist
import torch
from harness import alternate, report
from pyro.infer import Predictive as PyroPredictive

from brancher import distributions as dist
from brancher import plate, sample
from brancher.infer import Predictive

DRAWS = 1000
X = torch.randn(50, 3)


def hierarchical(lib: Any, law: Any) -> Any:
    def model() -> None:
        mu = lib.sample("mu", law.Normal(0.0, 5.0))
        with lib.plate("row", 50):
            theta = lib.sample("theta", law.Normal(mu, 1.0))
            lib.sample("y", law.Normal(theta, 1.0))

    return model


def matrix(lib: Any, law: Any) -> Any:
    def model() -> None:
        w = lib.sample("w", law.Normal(torch.zeros(3), 1.0).to_event(1))
        with lib.plate("row", 50):
            lib.sample("y", law.Normal(X @ w, 1.0))

    return model


class Ours:
    """The primitives under the names that the models use."""

    sample, plate = staticmethod(sample), plate


GIVEN = {
    hierarchical: {"mu": torch.randn(DRAWS), "theta": torch.randn(DRAWS, 50)},
    matrix: {"w": torch.randn(DRAWS, 3)},
}


def calls(predictive: Any) -> Any:
    def run(count: int) -> None:
        for _ in range(count):
            predictive()

    return run


def main() -> None:
    warnings.simplefilter("ignore")
    rows = []
    for make, given in GIVEN.items():
        sides = {
            "ours": Predictive(make(Ours, dist), given),
            "ours, loop": Predictive(make(Ours, dist), given, parallel=False),
            "Pyro, loop (its default)": PyroPredictive(make(pyro, pyro_dist), given),
        }
        if make is hierarchical:
            sides["Pyro, parallel"] = PyroPredictive(make(pyro, pyro_dist), given, parallel=True)
        times = alternate({name: calls(side) for name, side in sides.items()}, calls=1, rounds=5)
        rows += [(make.__name__, name, value / 1e3, value / times["ours"]) for name, value in times.items()]
    table = pd.DataFrame(rows, columns=["model", "side", "ms a call", "times ours"])
    report("predictive", table.set_index(["model", "side"]), "pyro-ppl")


if __name__ == "__main__":
    main()
