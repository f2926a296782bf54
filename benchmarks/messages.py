"""What one message costs: a sample site under more and more handlers, a parameter, a plate, beside Pyro.

Microseconds of work, eager, the drawing of numbers left out where a site is observed.

Run: python benchmarks/messages.py [--without-peers]
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from types import ModuleType
from typing import Any

from harness import Side, alternate, one_thread, report

one_thread()

import pandas as pd  # noqa: E402
import torch  # noqa: E402

import brancher  # noqa: E402
from brancher import distributions as dist  # noqa: E402

ZERO, ONE = torch.tensor(0.0), torch.tensor(1.0)
CALLS = 200


def sides(ppl: ModuleType, distributions: Any, handlers: Any) -> dict[str, Side]:
    """The ladder for one library: what is done, by name."""
    law = distributions.Normal(ZERO, ONE)
    constraint = torch.distributions.constraints.positive
    ppl.clear_param_store()
    ppl.param("plain", torch.zeros(3))
    ppl.param("positive", torch.ones(3), constraint=constraint)

    def under(count: int, what: Any) -> Side:
        def run(calls: int) -> None:
            with ExitStack() as entered:
                for _ in range(count):
                    entered.enter_context(handlers.scale(scale=1.0))
                for _ in range(calls):
                    what()

        return run

    def traced(calls: int) -> None:
        for _ in range(calls):
            handlers.trace(observed).get_trace()

    def scored(calls: int) -> None:
        for _ in range(calls):
            handlers.trace(observed).get_trace().log_prob_sum()

    def observed() -> None:
        ppl.sample("x", law, obs=ZERO)

    def in_plate() -> None:
        with ppl.plate("row", 3):
            pass

    return {
        "a distribution made": under(0, lambda: distributions.Normal(ZERO, ONE)),
        "observed site, no handler": under(0, observed),
        "observed site, 1 handler": under(1, observed),
        "observed site, 2 handlers": under(2, observed),
        "observed site, 4 handlers": under(4, observed),
        "plate entered and left": under(0, in_plate),
        "parameter read": under(0, lambda: ppl.param("plain")),
        "positive parameter read": under(0, lambda: ppl.param("positive")),
        "trace of one observed site": traced,
        "the same and its density": scored,
    }


def main() -> None:
    """Print a row for each rung."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    chosen = {("brancher", name): side for name, side in sides(brancher, dist, brancher.handlers).items()}
    if not options.without_peers:
        import pyro
        import pyro.distributions
        import pyro.poutine

        peer = sides(pyro, pyro.distributions, pyro.poutine)
        chosen |= {("Pyro", name): side for name, side in peer.items()}
    times = alternate({"/".join(key): side for key, side in chosen.items()}, CALLS, options.rounds)
    table = pd.Series({key: times["/".join(key)] for key in chosen}).unstack(0, sort=False)
    if not options.without_peers:
        table["Pyro / brancher"] = table["Pyro"] / table["brancher"]
    report(None if options.without_peers else "messages", table, "brancher", "pyro-ppl")


if __name__ == "__main__":
    main()
