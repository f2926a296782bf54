"""Models whose moments wait for each other: compiled steps roll them up, and give the eager losses.

Graphs run in Python, loop for loop; the slow run takes them through the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from brancher import ParamStore, optim, param, plate, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.infer import SVI, Trace_ELBO
from brancher.infer.autoguide import AutoNormal
from brancher.staging import compiled
from brancher.staging.graph import purify
from brancher.staging.rewriting import periods
from brancher.staging.rewriting.loops import LoopCode, loop_of, numbers_of
from brancher.symbolic import (
    DiscreteTimeSeries,
    LatentTimeSeriesModel,
    MarkovProcess,
    NormalVariable,
    ProbabilisticModel,
    inference,
)

Tensor = torch.Tensor
T = 30
STEPS = 4


def autoregression(y: Tensor) -> None:
    b = sample("b", dist.Normal(0.0, 1.0))
    x = sample("x_0", dist.Normal(0.0, 1.0))
    for t in range(1, T):
        x = sample(f"x_{t}", dist.Normal(b * x, 1.0))
        sample(f"y_{t}", dist.Normal(x, 0.3), obs=y[t])


def with_gaps(y: Tensor) -> None:
    b = sample("b", dist.Normal(0.0, 1.0))
    x = sample("x_0", dist.Normal(0.0, 1.0))
    for t in range(1, T):
        x = sample(f"x_{t}", dist.Normal(b * x, 1.0))
        if t not in (3, 4, 11, 20):
            sample(f"y_{t}", dist.Normal(x, 0.3), obs=y[t])


def remembering(y: Tensor) -> None:
    """A guide of the same structure."""
    sample("b", dist.Normal(param("b_loc", torch.tensor(0.0)), 0.2))
    memory, x = torch.sigmoid(param("memory", torch.tensor(0.0))), torch.tensor(0.0)
    for t in range(T):
        scale = param(f"scale_{t}", torch.tensor(1.0), constraint=constraints.positive)
        x = sample(f"x_{t}", dist.Normal(memory * x + param(f"shift_{t}", torch.tensor(0.0)), scale))


def second_order(y: Tensor) -> None:
    b, c = sample("b", dist.Normal(0.0, 1.0)), sample("c", dist.Normal(0.0, 1.0))
    before = sample("x_0", dist.Normal(0.0, 1.0))
    x = sample("x_1", dist.Normal(b * before, 1.0))
    for t in range(2, T):
        before, x = x, sample(f"x_{t}", dist.Normal(b * x + c * before, 1.0))
        sample(f"y_{t}", dist.Normal(x, 0.3), obs=y[t])


def second_order_guide(y: Tensor) -> None:
    for name in ("b", "c"):
        sample(name, dist.Normal(param(f"{name}_loc", torch.tensor(0.0)), 0.1))
    before = x = torch.tensor(0.0)
    for t in range(T):
        shift = param(f"shift_{t}", torch.tensor(0.0))
        before, x = x, sample(f"x_{t}", dist.Normal(0.5 * x - 0.2 * before + shift, 0.5))


def vectors(y: Tensor) -> None:
    b = sample("b", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    x = sample("x_0", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    for t in range(1, T):
        x = sample(f"x_{t}", dist.Normal(b * x, 1.0).to_event(1))
        sample(f"y_{t}", dist.Normal(x.sum(-1), 0.3), obs=y[t])


def vectors_guide(y: Tensor) -> None:
    sample("b", dist.Normal(param("b_loc", torch.zeros(3)), 0.1).to_event(1))
    x = torch.zeros(3)
    for t in range(T):
        x = sample(f"x_{t}", dist.Normal(0.7 * x + param(f"shift_{t}", torch.zeros(3)), 0.5).to_event(1))


def garch(y: Tensor) -> None:
    a, c = sample("a", dist.LogNormal(-1.0, 0.5)), sample("c", dist.LogNormal(-1.0, 0.5))
    b, variance = sample("b", dist.Normal(0.0, 1.0)).sigmoid(), torch.tensor(1.0)
    for t in range(T):
        sample(f"y_{t}", dist.Normal(0.0, variance.sqrt()), obs=y[t])
        variance = c + a * y[t] ** 2 + b * variance


def pendulum(y: Tensor) -> None:
    """Euler's method."""
    stiffness = sample("stiffness", dist.LogNormal(0.0, 0.5))
    state = sample("start", dist.Normal(torch.ones(2), 1.0).to_event(1))
    for t in range(T):
        slope = torch.stack([state[1], -stiffness * state[0].sin() - 0.1 * state[1]])
        state = state + 0.05 * slope
        sample(f"y_{t}", dist.Normal(state[0], 0.2), obs=y[t])


def columns(y: Tensor) -> None:
    b = sample("b", dist.Normal(0.0, 1.0))
    with plate("series", 5):
        x = sample("x_0", dist.Normal(0.0, 1.0))
        for t in range(1, T):
            x = sample(f"x_{t}", dist.Normal(b * x, 1.0))


def columns_guide(y: Tensor) -> None:
    sample("b", dist.Normal(param("b_loc", torch.tensor(0.0)), 0.1))
    loc = param("loc", torch.zeros(5, T))
    scale = param("scale", torch.ones(5, T), constraint=constraints.positive)
    with plate("series", 5):
        x = torch.zeros(5)
        for t in range(T):
            x = sample(f"x_{t}", dist.Normal(0.5 * x + loc[:, t], scale[:, t]))


@pytest.fixture
def turns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many turns the loops of compiled steps have; short ones are loops too."""
    monkeypatch.setattr(periods, "FEWEST_TURNS", 8)
    found: list[int] = []
    if request.config.getoption("markexpr", "") == "slow":
        compile_loop = compiled._compile_loop

        def watched(loop: Any) -> Any:
            found.append(loop.turns)
            return compile_loop(loop)

        monkeypatch.setattr(compiled, "_compile_loop", watched)
        return found

    def interpret(traced: Any, tensors: Any, name: str) -> compiled.Compiled:
        pure = purify(traced, tensors, compile_loop=lambda loop: LoopCode("loop", "", ""))
        found.extend(loop_of(number).turns for number in numbers_of(pure.graph))

        def run(inputs: list[Tensor]) -> list[Tensor]:
            with torch.no_grad():
                return list(pure.graph(*[t.detach() for t in inputs]))

        return compiled.Compiled(run, pure.outputs, pure.writes, pure.changed, None, False)

    monkeypatch.setattr("brancher.staging.plan.compile_graph", interpret)
    return found


def losses(make: Callable[[bool], SVI], compile: bool, *args: Tensor) -> list[float]:
    torch.manual_seed(0)
    svi = make(compile)
    torch.manual_seed(1)
    return [svi.step(*args) for _ in range(STEPS)]


PAIRS: list[tuple[Callable[..., None], Callable[..., None] | None, int]] = [
    (autoregression, remembering, 1),
    (autoregression, remembering, 300),
    (with_gaps, remembering, 1),
    (second_order, second_order_guide, 1),
    (vectors, vectors_guide, 1),
    (garch, None, 1),
    (pendulum, None, 1),
    (columns, columns_guide, 1),
]


@pytest.mark.parametrize(
    ("model", "guide", "particles"), PAIRS, ids=[f"{model.__name__}-{n}" for model, _, n in PAIRS]
)
def test_chain_gives_the_eager_losses(
    model: Callable[..., None], guide: Callable[..., None] | None, particles: int, turns: list[int]
) -> None:
    def make(compile: bool) -> SVI:
        elbo = Trace_ELBO(num_particles=particles)
        rule = optim.Adam({"lr": 0.01})
        return SVI(model, guide or AutoNormal(model), rule, elbo, store=ParamStore(), compile=compile)

    y = torch.randn(T, generator=torch.Generator().manual_seed(2))
    assert losses(make, True, y) == pytest.approx(losses(make, False, y), rel=1e-4)
    assert max(turns, default=0) >= T - 8


def markov_process() -> ProbabilisticModel:
    b = NormalVariable(0.5, 0.1, "b")
    first = NormalVariable(0.0, 0.25, "x0")
    level = MarkovProcess(first, lambda t, x: NormalVariable(b * x, 0.25, f"x{t}"))
    seen = LatentTimeSeriesModel(level, lambda t, x: NormalVariable(x, 0.5, f"y{t}"))
    seen.observe([float("nan") if t in (4, 5) else 0.1 * (t % 7) for t in range(T)])
    return seen


def discrete_series() -> ProbabilisticModel:
    b = NormalVariable(0.5, 0.1, "b")
    levels = [NormalVariable(0.0, 1.0, "x0")]
    for t in range(1, T):
        levels.append(NormalVariable(b * levels[-1], 1.0, f"x{t}"))
    seen = [NormalVariable(level, 0.3, f"y{t}") for t, level in enumerate(levels)]
    model = DiscreteTimeSeries(seen)
    model.observe([0.1 * (t % 7) for t in range(T)])
    guide = [NormalVariable(0.0, 1.0, "x0", learnable=True)]
    for t in range(1, T):
        guide.append(NormalVariable(0.5 * guide[-1], 1.0, f"x{t}", learnable=True))
    model.set_posterior_model(ProbabilisticModel([NormalVariable(0.5, 0.1, "b", learnable=True), *guide]))
    return model


@pytest.mark.parametrize(
    ("make", "least"),
    [(markov_process, 8), (discrete_series, T - 8)],  # the first has a guide without a chain, but draws
    ids=["markov_process", "discrete_series"],
)
def test_chain_as_algebra_gives_the_eager_losses(
    make: Callable[[], ProbabilisticModel], least: int, turns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brancher.infer.training.worth_compiling", lambda num_sites: 1)
    curves = []
    for compile in (True, False):
        model = make()
        inference.perform_inference(model, STEPS, 20, lr=0.01, progress=False, compile=compile, seed=0)
        curves.append(model.diagnostics["loss curve"].tolist())
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    assert max(turns, default=0) >= least
