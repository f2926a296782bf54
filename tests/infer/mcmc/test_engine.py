"""Kernels: the C++ loop against the tensor code, and both against exact answers."""

from __future__ import annotations

import pytest
import torch

from brancher.infer.mcmc import engine, mass, rng, stepsize
from brancher.infer.mcmc.hmc import HMCKernel
from brancher.infer.mcmc.integrator import Metric, value_and_grad
from brancher.infer.mcmc.nuts import NUTSKernel
from brancher.infer.mcmc.random_walk import RandomWalkKernel
from brancher.infer.mcmc.state import Chain
from brancher.staging import is_available

DIM = 3
SCALE = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
KERNELS = {
    "nuts": NUTSKernel(),
    "hmc": HMCKernel(trajectory_length=2.0),
    "shallow": NUTSKernel(max_tree_depth=2),
}
needs_compiler = pytest.mark.skipif(not is_available(), reason="no C++ compiler here")


def _log_prob(x):
    x = x / SCALE.to(x)
    return -0.5 * x.square().sum(-1) - 0.2 * x[:, 0] * x[:, 1] - 0.05 * x[:, 2].pow(4)


def _begin(kernel, chains, dense=False, dtype=torch.float64):
    position = torch.zeros(len(chains), DIM, dtype=dtype)
    value, grad = value_and_grad(_log_prob)(position)
    numbers = torch.tensor(chains)
    none = torch.zeros_like(numbers)
    step = stepsize.start(torch.full_like(value, 0.4))
    state = kernel.init(Chain(rng.chain_keys(3, numbers), none, none.clone(), position, grad, value, step))
    metric = mass.unit_metric(len(chains), DIM, dense, position)
    if dense:
        covariance = torch.eye(DIM, dtype=dtype) + 0.3
        root = torch.linalg.cholesky(torch.linalg.inv(covariance))
        metric = Metric(*(m.repeat(len(chains), 1, 1) for m in (covariance, root)))
    return state, metric


def _draw(runner, kernel, chains, draws, dense=False, dtype=torch.float64, budget=10**9):
    state, metric = _begin(kernel, chains, dense, dtype)
    buffers = engine.Buffers.empty(len(chains), draws, state.chain.position, True)
    done = 1
    while done:
        state, done = runner.run(state, metric, engine.Orders(draws, 0, True), buffers, budget)
    return buffers, state


@pytest.fixture(scope="module", params=["float64", "float32"])
def compiled(request):
    dtype = getattr(torch, request.param)
    made = {}
    for name, kernel in KERNELS.items():
        made[name] = engine.make_engine(kernel, _log_prob, torch.zeros(2, DIM, dtype=dtype), True)
    return dtype, made


@needs_compiler
@pytest.mark.parametrize("dense", [False, True], ids=["diag", "dense"])
@pytest.mark.parametrize("name", KERNELS)
def test_native_engine_draws_what_the_tensor_code_draws(compiled, name, dense):
    dtype, made = compiled
    kernel, count = KERNELS[name], 15 if dtype == torch.float64 else 3
    ours, after = _draw(made[name], kernel, [0, 1], count, dense, dtype)
    plain, state = _draw(
        engine.TensorEngine(kernel, value_and_grad(_log_prob)), kernel, [0, 1], count, dense, dtype
    )
    # Rounding differs, and a Markov chain amplifies it: about a digit every few draws.
    close = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
    for mine, theirs in zip(ours, plain, strict=True):
        assert torch.allclose(mine, theirs, **close)
    assert torch.equal(after.chain.tick, state.chain.tick)


@needs_compiler
def test_native_engine_may_stop_anywhere(compiled):
    dtype, made = compiled
    whole, _ = _draw(made["nuts"], KERNELS["nuts"], [0, 1], 30, dtype=dtype)
    pieces, _ = _draw(made["nuts"], KERNELS["nuts"], [0, 1], 30, dtype=dtype, budget=1)
    assert torch.equal(whole.draws, pieces.draws) and torch.equal(whole.stats, pieces.stats)


@pytest.mark.parametrize("kernel", [*KERNELS.values(), RandomWalkKernel()], ids=[*KERNELS, "walk"])
def test_chain_depends_on_its_number_alone(kernel):
    runner = engine.TensorEngine(kernel, value_and_grad(_log_prob))
    together, _ = _draw(runner, kernel, [0, 1, 2, 3, 4], 4)
    alone, _ = _draw(runner, kernel, [3], 4)
    # The same numbers; sums over another batch may round differently.
    assert torch.allclose(together.draws[3:4], alone.draws, rtol=1e-9, atol=1e-9)


def test_tensor_engine_may_stop_anywhere():
    kernel = KERNELS["nuts"]
    runner = engine.TensorEngine(kernel, value_and_grad(_log_prob))
    whole, _ = _draw(runner, kernel, [0, 1], 4)
    pieces, _ = _draw(runner, kernel, [0, 1], 4, budget=1)
    assert torch.equal(whole.draws, pieces.draws)


def test_divergent_proposal_is_counted_and_refused():
    kernel = HMCKernel(trajectory_length=2.0)
    runner = engine.TensorEngine(
        kernel, value_and_grad(lambda x: torch.where(x[:, 0] > 1e-3, torch.nan, 0 * x.sum(-1)))
    )
    state, metric = _begin(kernel, [0])
    buffers = engine.Buffers.empty(1, 20, state.chain.position, False)
    runner.run(state, metric, engine.Orders(20, 0, False), buffers, 10**6)
    diverging = buffers.stats[0, :, engine.STATS.index("diverging")]
    assert 0 < int(diverging.sum()) < 20 and bool((buffers.draws[0, :, 0] <= 1e-3).all())
