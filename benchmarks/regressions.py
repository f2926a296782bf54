"""Regressions of counts and categories: a step of SVI, eager and in a compiled run, beside NumPyro's run.

The same model functions serve both libraries. On NumPyro's side all steps of a turn are one ``lax.scan`` that
is compiled beforehand, as ``svi.run`` does it at every call.

Run: python benchmarks/regressions.py [--only binomial,softmax] [--without-peers]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from harness import Side, alternate, clock, one_thread, report

one_thread()

import pandas as pd  # noqa: E402
import torch  # noqa: E402

import brancher  # noqa: E402
from brancher import ParamStore, optim  # noqa: E402
from brancher import distributions as dist  # noqa: E402
from brancher.infer import SVI  # noqa: E402
from brancher.infer.autoguide import AutoNormal  # noqa: E402

ROWS, COLUMNS, TRIALS = 1000, 10, 30
#: Steps of one turn of NumPyro's: their number is part of what is compiled.
STEPS = 5000

NOTES = (
    "Microseconds of work a step on one core, medians of several turns, without compilation.\n"
    "What depends on data alone, such as log-gammas of counts, is computed once a turn by both."
)


class Regression(NamedTuple):
    """A model of both libraries, and its data.

    Attributes:
        make: gives the model from ``sample``, ``plate``, the library's laws and its exponential.
        data: tensors for the model.
    """

    make: Callable[..., Callable[..., None]]
    data: tuple[torch.Tensor, ...]


def table(rows: int = ROWS, columns: int = COLUMNS) -> torch.Tensor:
    """Predictors."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def counts(rate: torch.Tensor) -> torch.Tensor:
    """Counts of these rates."""
    return torch.poisson(rate, generator=torch.Generator().manual_seed(1))


def weights(ppl: Any, laws: Any, *shape: int) -> Any:
    """Standard normal weights."""
    return ppl.sample("w", laws.Normal(0.0, 1.0).expand(list(shape)).to_event(len(shape)))


def binomial() -> Regression:
    """Successes in 30 trials a row."""

    def make(ppl: Any, laws: Any, exp: Any) -> Callable[..., None]:
        def model(x: Any, trials: Any, y: Any) -> None:
            logits = x @ weights(ppl, laws, COLUMNS)
            with ppl.plate("row", len(y)):
                ppl.sample("y", laws.Binomial(total_count=trials, logits=logits), obs=y)

        return model

    x = table()
    y = counts((TRIALS / 4) * torch.ones(ROWS)).clamp(max=TRIALS)
    return Regression(make, (x, torch.full((ROWS,), float(TRIALS)), y))


def negative_binomial() -> Regression:
    """Overdispersed counts, their concentration latent."""

    def make(ppl: Any, laws: Any, exp: Any) -> Callable[..., None]:
        law = getattr(laws, "NegativeBinomialLogits", laws.NegativeBinomial)

        def model(x: Any, y: Any) -> None:
            logits = x @ weights(ppl, laws, COLUMNS)
            total = ppl.sample("total", laws.Gamma(2.0, 0.5))
            with ppl.plate("row", len(y)):
                ppl.sample("y", law(total_count=total, logits=logits), obs=y)

        return model

    x = table()
    return Regression(make, (x, counts((0.3 * x.sum(-1)).exp())))


def softmax() -> Regression:
    """One of four categories a row."""

    def make(ppl: Any, laws: Any, exp: Any) -> Callable[..., None]:
        def model(x: Any, y: Any) -> None:
            logits = x @ weights(ppl, laws, COLUMNS, 4)
            with ppl.plate("row", len(y)):
                ppl.sample("y", laws.Categorical(logits=logits), obs=y)

        return model

    return Regression(make, (table(5000), torch.arange(5000) % 4))


def multinomial() -> Regression:
    """Counts of six categories in 30 trials a row."""

    def make(ppl: Any, laws: Any, exp: Any) -> Callable[..., None]:
        def model(x: Any, y: Any) -> None:
            logits = x @ weights(ppl, laws, COLUMNS, 6)
            with ppl.plate("row", len(y)):
                ppl.sample("y", laws.Multinomial(TRIALS, logits=logits), obs=y)

        return model

    y = torch.full((ROWS, 6), TRIALS / 6)
    return Regression(make, (table(), y))


def beta_binomial() -> Regression:
    """Successes in 30 trials a row, with a spread of their own."""

    def make(ppl: Any, laws: Any, exp: Any) -> Callable[..., None]:
        def model(x: Any, trials: Any, y: Any) -> None:
            mean = 1.0 / (1.0 + exp(-(x @ weights(ppl, laws, COLUMNS))))
            size = ppl.sample("size", laws.LogNormal(1.0, 1.0))
            with ppl.plate("row", len(y)):
                ppl.sample("y", laws.BetaBinomial(size * mean, size * (1.0 - mean), trials), obs=y)

        return model

    return Regression(make, binomial().data)


def groups() -> Regression:
    """Counts of 1,000 groups with five rows each."""

    def make(ppl: Any, laws: Any, exp: Any) -> Callable[..., None]:
        def model(group: Any, y: Any) -> None:
            mean = ppl.sample("mean", laws.Normal(0.0, 2.0))
            spread = ppl.sample("spread", laws.HalfNormal(1.0))
            with ppl.plate("group", 1000):
                level = ppl.sample("level", laws.Normal(mean, spread))
            with ppl.plate("row", len(y)):
                ppl.sample("y", laws.Poisson(exp(level[group])), obs=y)

        return model

    group = torch.arange(5000) // 5
    return Regression(make, (group, counts((group % 7).float())))


MODELS: dict[str, Callable[[], Regression]] = {
    "binomial": binomial,
    "negative binomial": negative_binomial,
    "softmax": softmax,
    "multinomial": multinomial,
    "beta-binomial": beta_binomial,
    "Poisson groups": groups,
}


def ours(name: str, compile: bool) -> Side:
    """Steps of ``SVI.run``."""
    make, data = MODELS[name]()
    model = make(brancher, dist, torch.exp)
    svi = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.001}), store=ParamStore(), compile=compile)

    def run(calls: int) -> None:
        svi.run(calls, *data, progress=False)

    return run


def numpyro(name: str) -> Side:
    """Turns of ``STEPS`` steps in one compiled scan; fewer are not measured."""
    import jax
    import numpyro as peer
    from numpyro import distributions as laws
    from numpyro.infer import SVI as PeerSVI
    from numpyro.infer import Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal as PeerAutoNormal

    make, data = MODELS[name]()
    model, args = make(peer, laws, jax.numpy.exp), tuple(jax.numpy.asarray(each.numpy()) for each in data)
    svi = PeerSVI(model, PeerAutoNormal(model), peer.optim.Adam(0.001), Trace_ELBO())
    state = svi.init(jax.random.PRNGKey(0), *args)
    steps = jax.jit(lambda state, args: jax.lax.scan(lambda s, _: svi.update(s, *args), state, length=STEPS))
    jax.block_until_ready(steps(state, args))

    def run(calls: int) -> float:
        if calls != STEPS:
            return 0.0
        begin = clock()
        jax.block_until_ready(steps(state, args))
        return clock() - begin

    return run


def measure(name: str, peers: bool, rounds: int) -> dict[str, float]:
    """Microseconds a step of every side, and ratios."""
    times = alternate({"eager": ours(name, False)}, rounds=rounds)
    sides = {"run": ours(name, True)} | ({"NumPyro run": numpyro(name)} if peers else {})
    times |= alternate(sides, STEPS, rounds=rounds)
    found = {f"{side} [us]": value for side, value in times.items()}
    found["run / eager"] = times["run"] / times["eager"]
    if peers:
        found["run / NumPyro run"] = times["run"] / times["NumPyro run"]
    return found


def main() -> None:
    """Print microseconds a step and ratios, a column a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(MODELS), help="models, with commas between")
    parser.add_argument("--without-peers", action="store_true", help="leave NumPyro out")
    options = parser.parse_args()
    chosen = options.only.split(",")
    is_whole = set(chosen) == set(MODELS) and not options.without_peers
    columns = {name: measure(name, not options.without_peers, options.rounds) for name in chosen}
    file = "regressions" if is_whole else None
    report(file, pd.DataFrame(columns), "brancher", "numpyro", "jax", notes=NOTES)


if __name__ == "__main__":
    main()
