"""Fifty compiled steps are fifty eager ones: every guide, loss, optimizer, schedule and kind of model.

In float64, so that a wrong term can not hide behind rounding. ``test_compiled_step`` has float32.
"""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from brancher import (
    clear_param_store,
    factor,
    get_param_store,
    handlers,
    markov,
    module,
    optim,
    param,
    plate,
    sample,
    subsample,
)
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.errors import BrancherWarning
from brancher.infer import (
    SVI,
    EnergyDistance,
    RenyiELBO,
    Trace_ELBO,
    Trace_MMD,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    config_enumerate,
)
from brancher.infer.autoguide import (
    AffineAutoregressive,
    AutoCallable,
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuideList,
    AutoIAFNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
    AutoNormalizingFlow,
    AutoStructured,
)
from brancher.nn import PyroModule, PyroSample
from brancher.optim.named import OPTIMIZERS, SCHEDULES
from brancher.optim.rules import RULES

STEPS = 50


@pytest.fixture(autouse=True)
def _in_float64():
    torch.set_default_dtype(torch.float64)  # the fixture of all tests puts it back


def schools():
    y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])
    sigma = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.LogNormal(0.0, 1.0))
    with plate("school", 8):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("y", dist.Normal(theta, sigma), obs=y)


def listed():
    guide = AutoGuideList(schools)
    guide.append(AutoNormal(handlers.block(schools, hide=["tau"])))

    def by_hand():
        loc, scale = param("loc", torch.tensor(0.0)), param("scale", torch.tensor(0.1), constraint=POSITIVE)
        return {"tau": sample("tau", dist.LogNormal(loc, scale))}

    guide.append(AutoCallable(handlers.block(schools, expose=["tau"]), by_hand))
    return guide


POSITIVE = constraints.positive

GUIDES = {
    "delta": lambda: AutoDelta(schools),
    "normal": lambda: AutoNormal(schools),
    "diagonal": lambda: AutoDiagonalNormal(schools),
    "multivariate": lambda: AutoMultivariateNormal(schools),
    "low rank": lambda: AutoLowRankMultivariateNormal(schools, rank=2),
    "laplace": lambda: AutoLaplaceApproximation(schools),
    "autoregressive": lambda: AutoIAFNormal(schools, hidden_dim=12),
    "flow": lambda: AutoNormalizingFlow(schools, lambda n: [AffineAutoregressive(n, hidden_dim=12)]),
    "structured": lambda: AutoStructured(schools),
    "list": listed,
}

LOSSES = {
    "one particle": lambda: Trace_ELBO(),
    "particles": lambda: Trace_ELBO(5),
    "particles in a loop": lambda: Trace_ELBO(3, vectorize_particles=False),
    "mean field": lambda: TraceMeanField_ELBO(),
    "mean field, particles": lambda: TraceMeanField_ELBO(4),
    "graph": lambda: TraceGraph_ELBO(2),
    "energy distance": lambda: EnergyDistance(prior_scale=0.1, num_particles=4),
    "mean discrepancy": lambda: Trace_MMD(lambda x, y: (x @ y.mT + 1.0).square(), 0.1, num_particles=4),
    "tail adaptive": lambda: TraceTailAdaptive_ELBO(4),
    "renyi": lambda: RenyiELBO(0.5, num_particles=4),
    "a function": lambda: lambda model, guide: Trace_ELBO().differentiable_loss(model, guide) * 2.0,
}

OPTIONS = {
    "Adam": [{"lr": 0.02, "weight_decay": 0.1}, {"lr": 0.02, "amsgrad": True, "betas": (0.8, 0.9)}],
    "AdamW": [{"lr": 0.02, "weight_decay": 0.1}],
    "SGD": [
        {"lr": 1e-3},
        {"lr": 1e-3, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1},
        {"lr": 1e-3, "momentum": 0.9, "nesterov": True},
    ],
    "RMSprop": [{"lr": 0.01}, {"lr": 0.01, "centered": True, "momentum": 0.5, "weight_decay": 0.1}],
    "Adagrad": [{"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}],
    "ClippedAdam": [{"lr": 0.05, "clip_norm": 0.5, "lrd": 0.99}],
}
RULED = sorted({kind.__name__ for kind in RULES})

RATES = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.95),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 7, gamma=0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [5, 11, 30]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, total_iters=9),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=20),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.97),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 40, power=2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 25),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, step_size_up=8, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=200, cycle_momentum=False),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1), lr_scheduler.ExponentialLR(o, 0.9)], [6]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, 0.5), lr_scheduler.ExponentialLR(o, 0.99)]
    ),
    "LRScheduler": None,  # the base class, which has no rule
    "ReduceLROnPlateau": None,  # needs the loss: see below
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.05),
}


X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(12, 2)
Y = X.sum(-1) + 0.3 * torch.cos(7 * X[:, 0])


def loc_scale(name, size=()):
    loc = param(f"{name}_loc", torch.zeros(size))
    return loc, param(f"{name}_scale", torch.ones(size), constraint=POSITIVE)


def subsampled(x, y):
    w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with plate("row", 12, subsample_size=5):
        here, now = subsample(x, event_dim=1), subsample(y, event_dim=0)
        z = sample("z", dist.Normal((here * w).sum(-1), 1.0))
        sample("y", dist.Normal(z, 0.5), obs=now)


def masked(x, y):
    w = sample("w", dist.StudentT(4.0, torch.zeros(2), 1.0).to_event(1))
    with plate("row", 12), handlers.mask(mask=y > 0), handlers.scale(scale=2.0):
        sample("y", dist.Normal((x * w).sum(-1), 1.0), obs=y)


def partly_observed(x, y):
    w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with plate("row", 12):
        sample("y", dist.Normal((x * w).sum(-1), 1.0), obs=y, obs_mask=y > 0)


def discrete(x, y):
    with plate("row", 12):
        k = sample("k", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        sample("y", dist.Normal(k.to(y), 1.0), obs=y)


def discrete_guide(x, y):
    with plate("row", 12):
        sample("k", dist.Categorical(logits=param("logits", torch.zeros(12, 3))))


@config_enumerate
def enumerated(x, y):
    weight = param("weight", torch.tensor([0.2, 0.3, 0.5]), constraint=constraints.simplex)
    loc = sample("loc", dist.Normal(torch.arange(3.0), 1.0).to_event(1))
    with plate("row", 12):
        k = sample("k", dist.Categorical(weight))
        sample("y", dist.Normal(loc[..., k] if loc.dim() == 1 else loc.gather(-1, k), 1.0), obs=y)


def enumerated_guide(x, y):
    loc, scale = loc_scale("loc", 3)
    sample("loc", dist.Normal(loc, scale).to_event(1))


def chain(x, y):
    z = sample("z_0", dist.Normal(0.0, 1.0))
    for t in markov(range(1, 5)):
        z = sample(f"z_{t}", dist.Normal(0.9 * z, 1.0))
        sample(f"y_{t}", dist.Normal(z, 0.5), obs=y[t])


def constrained(x, y):
    weight = sample("weight", dist.Dirichlet(torch.ones(2)))
    rate = sample("rate", dist.Gamma(2.0, 1.0))
    root = sample("root", dist.LKJCholesky(2, 1.0))
    mixed = (x @ root * weight).sum(-1)
    factor("penalty", -rate * mixed.square().sum())
    with plate("row", 12):
        sample("y", dist.Normal(mixed, rate), obs=y)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = torch.nn.Sequential(
            # No bias: batch norm takes it out again, and Adam would follow the rounding of its zero gradient.
            torch.nn.Linear(2, 4, bias=False),
            torch.nn.BatchNorm1d(4),
            torch.nn.Softplus(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(4, 1),
        )

    def model(self, x, y):
        module("net", self.net)
        with plate("row", len(x)):
            sample("y", dist.Normal(self.net(x).squeeze(-1), 1.0), obs=y)


class Bayesian(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[torch.nn.Linear](2, 1)
        self.linear.weight = PyroSample(dist.Normal(torch.zeros(1, 2), 1.0).to_event(2))

    def forward(self, x, y):
        mean = self.linear(x).squeeze(-1)
        with plate("row", len(x)):
            sample("y", dist.Normal(mean, 1.0), obs=y)


def nothing(x, y):
    pass


def with_its_guide(model):
    return lambda: (model, AutoNormal(model), Trace_ELBO())


def bayesian():
    model = Bayesian()
    return model, AutoNormal(model), Trace_ELBO()


MODELS = {
    "subsampled plate": with_its_guide(subsampled),
    "mask and scale": with_its_guide(masked),
    "partly observed": with_its_guide(partly_observed),
    "score function": lambda: (discrete, discrete_guide, Trace_ELBO()),
    "score function, graph": lambda: (discrete, discrete_guide, TraceGraph_ELBO()),
    "enumerated": lambda: (enumerated, enumerated_guide, TraceEnum_ELBO(max_plate_nesting=1)),
    "chain of sites": with_its_guide(chain),
    "constrained sites": with_its_guide(constrained),
    "dropout and batch norm": lambda: (Network().model, nothing, Trace_ELBO()),
    "bayesian module": bayesian,
}


def train(make, compile, args=(), make_optimizer=None):
    """Take the steps; the compiled ones in chunks of uneven length."""
    clear_param_store()
    torch.manual_seed(0)
    model, guide, loss = make()
    optimizer = optim.Adam({"lr": 0.02}) if make_optimizer is None else make_optimizer()
    svi = SVI(model, guide, optimizer, loss, compile=compile)
    if compile:
        losses = [loss for n in (20, 1, 29) for loss in svi.run(n, *args, progress=False)]
    else:
        losses = [svi.step(*args) for _ in range(STEPS)]
    return svi, losses, {name: value.detach().clone() for name, value in get_param_store().items()}


def check(make, args=(), make_optimizer=None, traces=1):
    _, losses, values = train(make, False, args, make_optimizer)
    svi, compiled_losses, compiled_values = train(make, True, args, make_optimizer)
    assert (svi.compile_counters.traces, svi.compile_counters.fallbacks) == (traces, 0)
    assert values, "nothing was trained"
    torch.testing.assert_close(torch.tensor(compiled_losses), torch.tensor(losses), rtol=1e-7, atol=1e-7)
    assert compiled_values.keys() == values.keys()
    for name, value in values.items():
        torch.testing.assert_close(
            compiled_values[name], value, rtol=1e-6, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("guide", GUIDES)
def test_guide(any_way, guide):
    check(lambda: (schools, GUIDES[guide](), Trace_ELBO()))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss(any_way, loss):
    check(lambda: (schools, AutoNormal(schools), LOSSES[loss]()))


@pytest.mark.parametrize("model", MODELS)
def test_model(any_way, model):
    check(MODELS[model], (X, Y))


@pytest.mark.parametrize(("name", "options"), [(name, o) for name in OPTIONS for o in OPTIONS[name]])
def test_optimizer(any_way, name, options):
    kind = OPTIMIZERS[name]
    check(with_its_guide(schools), make_optimizer=lambda: optim.Optimizer(kind, options))


def test_every_rule_is_in_this_registry():
    assert sorted(OPTIONS) == RULED
    assert SCHEDULES.keys() <= RATES.keys()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - set(RULED) - {"SparseAdam", "Muon", "LBFGS"}))
def test_optimizer_without_a_rule_runs_eagerly_and_says_so(recorded, name):
    clear_param_store()
    svi = SVI(schools, AutoNormal(schools), optim.Optimizer(OPTIMIZERS[name]), compile=True)
    with pytest.warns(BrancherWarning, match=f"optimizer '{name}': expected one of .*{RULED[0]}.*eagerly"):
        svi.run(3, progress=False)
    assert svi.steps == 3 and all(map(math.isfinite, svi.history))


@pytest.mark.parametrize("name", [name for name, make in RATES.items() if make is not None])
def test_schedule(recorded, name):
    def make_optimizer():
        return optim.Optimizer(torch.optim.Adam, {"lr": 0.05}, schedule=RATES[name])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # SequentialLR calls its parts the deprecated way
        check(with_its_guide(schools), make_optimizer=make_optimizer)


@pytest.mark.parametrize("name", ["CyclicLR", "OneCycleLR"])
def test_schedule_of_other_options_runs_eagerly_and_says_so(recorded, name):
    def schedule(o):
        if name == "CyclicLR":
            return lr_scheduler.CyclicLR(o, 0.001, 0.1, step_size_up=8)
        return lr_scheduler.OneCycleLR(o, 0.1, total_steps=200)

    def make_optimizer():
        return optim.Optimizer(torch.optim.Adam, {"lr": 0.05}, schedule=schedule)

    _, losses, values = train(with_its_guide(schools), False, (), make_optimizer)
    with pytest.warns(BrancherWarning, match=f"{name}.*betas"):
        _, compiled_losses, compiled_values = train(with_its_guide(schools), True, (), make_optimizer)
    assert compiled_losses == losses
    assert all(torch.equal(compiled_values[name], value) for name, value in values.items())
