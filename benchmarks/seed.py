"""An iteration of the noisy autoregression, 300 draws: eager and compiled, beside torch written by hand.

The original of the algebraic front end, Brancher 0.3, does not run on current torch and pandas. Mended, it
took 96 ms an iteration at T=20, and 100 ms for its own example at T=200, in which every state is observed, on
a machine where hand-written torch took 3.5 ms at T=20. A compiled iteration must be 50 times as fast, an
eager one 5 times.

Run: python benchmarks/seed.py [--rounds 7] [--long]

``--long`` compiles the noisy autoregression at T=200 as well, which takes the compiler many minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from harness import Side, alternate, one_thread, report

one_thread()

import pandas as pd  # noqa: E402
import torch  # noqa: E402

from brancher.infer import SVI  # noqa: E402
from brancher.optim import SGD  # noqa: E402
from brancher.symbolic import (  # noqa: E402
    BetaVariable,
    LogNormalVariable,
    NormalVariable,
    ProbabilisticModel,
)
from brancher.symbolic.methods import elbo  # noqa: E402
from brancher.symbolic.paths import with_paths  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from seed_autoregressive import build  # noqa: E402

SAMPLES, LR = 300, 1e-5
#: Milliseconds an iteration of Brancher 0.3.
ORIGINAL = {"noisy, T=20": 96.0, "observed, T=200": 100.0}
WAYS = ("eager", "compiled", "run")
#: How many times as fast an iteration must be.
BOUNDS = {
    ("noisy, T=20", "eager"): 5.0,
    ("noisy, T=20", "compiled"): 50.0,
    ("noisy, T=20", "run"): 50.0,
    ("observed, T=200", "eager"): 5.0,
    ("observed, T=200", "compiled"): 50.0,
    ("observed, T=200", "run"): 50.0,
}


def noisy(T: int) -> ProbabilisticModel:
    """The autoregression whose states are seen through noise, with data of its own."""
    model, posterior, y = build(T)
    draws = model._get_sample(1, seed=0)
    for yt in y:
        yt.observe(draws[yt][:, 0, :])
    model.set_posterior_model(posterior)
    return model


def observed(T: int) -> ProbabilisticModel:
    """The autoregression whose states are observed, its coefficient and noise unknown."""
    b, nu = BetaVariable(0.5, 1.5, "b"), LogNormalVariable(0.3, 1.0, "nu")
    x = [NormalVariable(0.0, 1.0, "x0")]
    for t in range(1, T):
        x.append(NormalVariable(b * x[t - 1], nu, f"x{t}"))
    model = ProbabilisticModel([b, nu, *x])
    draws = model._get_sample(1, seed=0)
    for xt in x:
        xt.observe(draws[xt][:, 0, :])
    model.set_posterior_model(
        [BetaVariable(0.5, 0.5, "b", learnable=True), LogNormalVariable(0.5, 1.0, "nu", learnable=True)]
    )
    return model


def ours(model: ProbabilisticModel, way: str) -> Side:
    """The iterations of ``perform_inference``: eager, compiled one by one, or many in one compiled call."""
    pair = model._pair()
    svi = SVI(
        pair.model,
        with_paths(pair.guide),
        SGD({"lr": LR}),
        elbo(pair, SAMPLES),
        store=pair.store,
        compile=way != "eager",
    )
    if way == "run":

        def run(calls: int) -> None:
            svi.run(calls, progress=False)

        return run
    return repeat(svi.step)


def normal(loc: torch.Tensor | float, scale: torch.Tensor | float) -> torch.distributions.Normal:
    """A normal whose arguments are not checked."""
    return torch.distributions.Normal(loc, scale, validate_args=False)


def noisy_by_hand(T: int) -> Side:
    """The noisy autoregression in plain eager torch, written for this one model."""
    data = torch.randn(T)
    size = {"b_loc": (), "memory": (), "x_loc": (T,), "b_scale": (), "x_scale": (T,)}
    free = {name: torch.zeros(shape, requires_grad=True) for name, shape in size.items()}
    optimizer = torch.optim.SGD(free.values(), lr=LR)

    def step() -> float:
        optimizer.zero_grad()
        scale = torch.nn.functional.softplus(free["x_scale"])
        law = normal(free["b_loc"].expand(SAMPLES), torch.nn.functional.softplus(free["b_scale"]))
        logit = law.rsample()
        # The slope of the logistic function is in both densities of b, and cancels.
        total = normal(0.5, 1.0).log_prob(logit) - law.log_prob(logit)
        b, memory = logit.sigmoid(), free["memory"].sigmoid()
        x, before = torch.zeros(SAMPLES), torch.zeros(SAMPLES)
        for t in range(T):
            law = normal(memory * x + free["x_loc"][t] if t else free["x_loc"][0].expand(SAMPLES), scale[t])
            before, x = x, law.rsample()
            total = total - law.log_prob(x) + normal(b * before if t else 0.0, 1.0).log_prob(x)
            total = total + normal(x, 0.3).log_prob(data[t])
        loss = -total.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return repeat(step)


def observed_by_hand(T: int) -> Side:
    """The observed autoregression in plain eager torch, written for this one model."""
    data = torch.randn(T)
    free = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.SGD([free], lr=LR)

    def step() -> float:
        optimizer.zero_grad()
        first, second, spread = torch.nn.functional.softplus(free[:3])
        q_b = torch.distributions.Beta(first, second, validate_args=False)
        q_nu = normal(free[3], spread)
        b, log_nu = q_b.rsample((SAMPLES,)), q_nu.rsample((SAMPLES,))
        p_b = torch.distributions.Beta(0.5, 1.5, validate_args=False)
        total = p_b.log_prob(b) - q_b.log_prob(b)
        # The slope of the exponential function is in both densities of nu, and cancels.
        total = total + normal(0.3, 1.0).log_prob(log_nu) - q_nu.log_prob(log_nu)
        nu = log_nu.exp()
        for t in range(1, T):
            total = total + normal(b * data[t - 1], nu).log_prob(data[t])
        loss = -total.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return repeat(step)


def repeat(step: Callable[[], object]) -> Side:
    """A side that makes the given number of steps."""

    def run(calls: int) -> None:
        for _ in range(calls):
            step()

    return run


def measure(name: str, sides: dict[str, Side], rounds: int) -> dict[str, float]:
    """Milliseconds an iteration of every side, and how many times as fast as the original each is."""
    times = {side: value / 1000.0 for side, value in alternate(sides, rounds=rounds).items()}
    table = {f"{side} [ms]": value for side, value in times.items()}
    if name in ORIGINAL:
        table["original [ms]"] = ORIGINAL[name]
        table |= {f"original / {side}": ORIGINAL[name] / time for side, time in times.items()}
    return table


def main() -> None:
    """Print milliseconds an iteration and ratios, a column a model; fail where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--long", action="store_true", help="compile the noisy model at T=200 too")
    options = parser.parse_args()
    torch.manual_seed(0)
    sides: dict[str, dict[str, Side]] = {
        "noisy, T=20": {"by hand": noisy_by_hand(20), **{way: ours(noisy(20), way) for way in WAYS}},
        "observed, T=200": {
            "by hand": observed_by_hand(200),
            **{way: ours(observed(200), way) for way in WAYS},
        },
        "noisy, T=200": {
            "by hand": noisy_by_hand(200),
            **{way: ours(noisy(200), way) for way in WAYS if options.long or way == "eager"},
        },
    }
    columns = {name: measure(name, each, options.rounds) for name, each in sides.items()}
    report("seed", pd.DataFrame(columns), "brancher")
    missed = [
        f"{name}: {side} is {columns[name][f'original / {side}']:.1f} times as fast, not {bound:g}"
        for (name, side), bound in BOUNDS.items()
        if columns[name][f"original / {side}"] < bound
    ]
    if missed:
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
