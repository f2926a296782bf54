"""On a GPU: every way to run, and the CPU's numbers to rounding wherever nothing is drawn."""

from __future__ import annotations

import math

import pytest
import torch

from brancher import ParamStore, get_param_store, module, optim, param, plate, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.infer import (
    MCMC,
    NUTS,
    SVI,
    Predictive,
    Trace_ELBO,
    TraceMeanField_ELBO,
    init_to_mean,
    log_density,
    log_likelihood,
)
from brancher.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from brancher.staging import RandomState, stage
from brancher.staging.emitting import native
from brancher.symbolic import NormalVariable, ProbabilisticModel, inference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
# Sums run in another order on the GPU: float32 rounding, carried through the steps.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture
def compiler():
    if native.compiler() is None:
        pytest.skip("no C++ compiler, which Triton needs as well")


def regression(device):
    """y = 2 x with a little noise, and where its data lie."""
    x = torch.linspace(-1.0, 1.0, 50, device=device)
    y = 2.0 * x + 0.1 * torch.cos(20.0 * x)
    zero, one = torch.zeros((), device=device), torch.ones((), device=device)

    def model(x, y=None):
        slope = sample("slope", dist.Normal(zero, 10.0 * one))
        noise = sample("noise", dist.LogNormal(zero, one))
        with plate("row", len(x), device=device):
            return sample("y", dist.Normal(slope * x, noise), obs=y)

    return model, x, y


def train(device, make_guide, steps=20, loss=None, **options):
    torch.manual_seed(0)
    with ParamStore() as store:
        model, x, y = regression(device)
        guide = make_guide(model)
        svi = SVI(model, guide, optim.Adam({"lr": 0.05}), loss, **options)
        losses = [svi.step(x, y) for _ in range(steps)]
        return svi, losses, {name: value.detach().clone() for name, value in store.items()}


def at_mean(model):
    """A point whose start is not drawn."""
    return AutoDelta(model, init_loc_fn=init_to_mean)


def same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value.cpu(), second[name].cpu(), **CLOSE)


def test_eager_steps_without_draws_are_those_of_the_cpu():
    _, on_cpu, cpu_values = train(CPU, at_mean)
    _, on_gpu, gpu_values = train(CUDA, at_mean)
    assert on_gpu == pytest.approx(on_cpu, rel=1e-4)
    assert all(value.device == CUDA for value in gpu_values.values())
    same(cpu_values, gpu_values)


@pytest.mark.parametrize("make_guide", [AutoDelta, AutoNormal, AutoMultivariateNormal])
def test_compiled_steps_are_the_eager_ones(compiler, make_guide):
    _, eager, eager_values = train(CUDA, make_guide)
    svi, compiled, compiled_values = train(CUDA, make_guide, compile=True)
    assert (svi.compile_counters.traces, svi.compile_counters.fallbacks) == (1, 0)
    assert compiled == pytest.approx(eager, rel=1e-3)
    same(eager_values, compiled_values)


def test_compiled_run_with_several_particles(compiler):
    model, x, y = regression(CUDA)
    svi = SVI(model, AutoNormal(model), optim.ClippedAdam({"lr": 0.05, "lrd": 0.99}), Trace_ELBO(4))
    losses = svi.run(200, x, y, progress=False, compile=True)
    assert svi.compile_counters.fallbacks == 0
    assert losses.tail(20).mean() < losses.head(20).mean()
    assert float(svi.guide.median()["slope"].detach()) == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("loss", [TraceMeanField_ELBO(), Trace_ELBO(3, vectorize_particles=False)])
def test_losses(loss):
    svi, losses, values = train(CUDA, AutoNormal, steps=3, loss=loss)
    assert svi.steps == 3 and all(map(math.isfinite, losses))
    assert all(torch.isfinite(value).all() for value in values.values())


def test_score_function_of_a_discrete_site():
    half, one = torch.full((3,), 0.5, device=CUDA), torch.ones((), device=CUDA)

    def model():
        k = sample("k", dist.Bernoulli(half).to_event(1))
        sample("y", dist.Normal(k.sum(-1), one), obs=one)

    def guide():
        logits = param("logits", torch.zeros(3, device=CUDA))
        sample("k", dist.Bernoulli(logits=logits).to_event(1))

    svi = SVI(model, guide, optim.SGD({"lr": 0.1}))
    assert all(math.isfinite(svi.step()) for _ in range(3))


def test_module_moves_with_its_data():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(CUDA)

    def model(x, y):
        module("net", net)
        scale = param("scale", torch.ones((), device=CUDA), constraint=constraints.positive)
        with plate("row", len(x), device=CUDA):
            sample("y", dist.Normal(net(x[:, None]).squeeze(-1), scale), obs=y)

    _, x, y = regression(CUDA)
    losses = SVI(model, lambda x, y: None, optim.Adam({"lr": 0.02})).run(50, x, y, progress=False)
    assert losses.iloc[-1] < losses.iloc[0]
    assert all(leaf.device == CUDA for leaf in get_param_store().unconstrained().values())


def test_checkpoint_comes_back_to_the_device(tmp_path):
    model, x, y = regression(CUDA)
    svi = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.05}))
    svi.step(x, y)
    svi.save(tmp_path / "run")
    svi.load(tmp_path / "run")
    assert math.isfinite(svi.step(x, y))
    assert all(leaf.device == CUDA for leaf in get_param_store().unconstrained().values())


def test_failed_step_leaves_the_generator_of_the_device():
    def broken():
        sample("x", dist.Normal(torch.zeros((), device=CUDA), 1.0))
        raise ValueError("broken")

    state = torch.cuda.get_rng_state(CUDA)
    with pytest.raises(ValueError, match="broken"):
        SVI(broken, lambda: None).step()
    assert torch.equal(torch.cuda.get_rng_state(CUDA), state)


def test_random_state_holds_the_device():
    torch.rand(1, device=CUDA)
    before = RandomState()
    first = torch.rand(3, device=CUDA)
    before.restore()
    assert torch.equal(torch.rand(3, device=CUDA), first)


def test_staged_function_gives_the_eager_values(compiler):
    staged = stage(lambda x: (x.sin() + torch.rand(3, device=CUDA), x.sum()))
    x = torch.arange(3.0, device=CUDA)
    for _ in range(2):
        torch.manual_seed(0)
        got = staged(x)
        torch.manual_seed(0)
        torch.testing.assert_close(got, (x.sin() + torch.rand(3, device=CUDA), x.sum()))
    assert (staged.counters.traces, staged.counters.fallbacks) == (1, 0)


def test_densities_are_those_of_the_cpu():
    values = {"slope": torch.tensor(1.5), "noise": torch.tensor(0.3)}
    draws = {name: value + torch.arange(4.0) / 10 for name, value in values.items()}
    found = []
    for device in (CPU, CUDA):
        model, x, y = regression(device)
        here = {name: value.to(device) for name, value in values.items()}
        each = log_likelihood(model, {name: value.to(device) for name, value in draws.items()}, x, y)
        found.append((log_density(model, (x, y), here).cpu(), each["y"].cpu()))
    torch.testing.assert_close(found[0], found[1], **CLOSE)


def test_predictive():
    model, x, y = regression(CUDA)
    guide = AutoNormal(model)
    SVI(model, guide, optim.Adam({"lr": 0.05})).run(300, x, y, progress=False, compile=False)
    draws = Predictive(model, guide=guide, num_samples=200)(x)
    assert draws["y"].shape == (200, 50) and draws["y"].device == CUDA
    # 200 draws of noise below 1: the mean of each row is within 0.3 of its line.
    assert float((draws["y"].mean(0) - 2.0 * x).abs().max()) < 0.3


@pytest.mark.parametrize("compile", [False, True])
def test_nuts_finds_the_posterior(compile):
    """Known noise and a flat prior: the posterior is the least-squares line."""
    if compile and native.compiler() is None:
        pytest.skip("no C++ compiler")
    _, x, y = regression(CUDA)
    zero = torch.zeros((), device=CUDA)

    def model(x, y):
        slope = sample("slope", dist.Normal(zero, zero + 100.0))
        with plate("row", len(x), device=CUDA):
            sample("y", dist.Normal(slope * x, 0.5), obs=y)

    options = {"num_samples": 100, "warmup_steps": 50, "num_chains": 4, "seed": 0, "progress": False}
    mcmc = MCMC(NUTS(model), compile=compile, **options)
    mcmc.run(x, y)
    slope = mcmc.get_samples()["slope"]
    assert slope.device == CUDA and slope.shape == (400,)
    mean, spread = float((x * y).sum() / (x * x).sum()), 0.5 / float((x * x).sum().sqrt())
    # 400 draws of four chains, worth 100 at least: 5 standard errors.
    assert float(slope.mean()) == pytest.approx(mean, abs=0.5 * spread)
    assert float(slope.std()) == pytest.approx(spread, rel=0.4)


def test_symbolic_model_is_fitted():
    zero, one = torch.zeros((), device=CUDA), torch.ones((), device=CUDA)
    mu = NormalVariable(zero, one, "mu")
    y = NormalVariable(mu, one, "y")
    y.observe(torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0], device=CUDA))
    model = ProbabilisticModel([y])
    result = inference.perform_inference(model, 300, 20, lr=0.05, progress=False, compile=False, seed=0)
    assert math.isfinite(result.losses.iloc[-1])
    draws = model.get_posterior_sample(2000, seed=0)["mu"]
    assert draws.mean() == pytest.approx(10.0 / 6.0, abs=0.1)


def test_default_device_holds_everything():
    torch.set_default_device("cuda")
    try:
        y, error = torch.tensor([28.0, 8.0, -3.0, 7.0]), torch.tensor([15.0, 10.0, 16.0, 11.0])

        def model(error, y=None):
            mu = sample("mu", dist.Normal(0.0, 5.0))
            with plate("school", len(error)):
                theta = sample("theta", dist.Normal(mu, 3.0))
                sample("y", dist.Normal(theta, error), obs=y)

        svi = SVI(model, AutoNormal(model), compile=False)
        assert math.isfinite(svi.step(error, y))
        mcmc = MCMC(NUTS(model), num_samples=50, warmup_steps=50, num_chains=2, seed=0, progress=False)
        mcmc.run(error, y)
        assert mcmc.get_samples()["theta"].device == CUDA and mcmc.summary()["sd"].notna().all()
        draws = Predictive(model, mcmc.get_samples())(error)
        assert draws["y"].shape == (100, 4) and draws["y"].device == CUDA
    finally:
        torch.set_default_device(None)
