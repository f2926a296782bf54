"""Compiled steps: the eager numbers, for every kind of model, guide, loss and optimizer.

What is compared is the recorded graph, run operation by operation: that is where a step can be
recorded wrongly. Two cases, and all of them in the slow run, go through the compiler as well.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from brancher import clear_param_store, get_param_store, handlers, module, optim, param, plate, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.errors import BrancherWarning, InferenceError, NonFiniteError
from brancher.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from brancher.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

Y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])
SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
X = torch.linspace(-1, 1, 24).reshape(12, 2)


def schools(sigma, y):
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with plate("school", 8):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("y", dist.Normal(theta, sigma), obs=y)


def subsampled(sigma, y):
    mu = sample("mu", dist.Normal(0.0, 5.0))
    with plate("school", 8, subsample_size=3) as rows:
        theta = sample("theta", dist.Normal(mu, 1.0))
        sample("y", dist.Normal(theta, sigma[rows]), obs=y[rows])


def masked(sigma, y):
    mu = sample("mu", dist.Normal(0.0, 5.0))
    with plate("school", 8), handlers.mask(mask=y > 0), handlers.scale(scale=2.0):
        sample("y", dist.StudentT(4.0, mu, sigma), obs=y)


def by_hand(sigma, y):
    loc = param("loc", torch.tensor(0.5))
    scale = param("scale", torch.tensor(1.0), constraint=constraints.positive)
    sample("mu", dist.Normal(loc, scale))


def mixture(sigma, y):
    with plate("school", 8):
        k = sample("k", dist.Bernoulli(0.3))
        sample("y", dist.Normal(10.0 * k, sigma), obs=y)


def mixture_guide(sigma, y):
    with plate("school", 8):
        sample("k", dist.Bernoulli(logits=param("logits", torch.zeros(8))))


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = torch.nn.Sequential(
            # No bias: batch norm takes it out again, and Adam would follow the rounding of its zero gradient.
            torch.nn.Linear(2, 4, bias=False),
            torch.nn.BatchNorm1d(4),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(4, 1),
        )

    def model(self, x, y):
        net = module("net", self.net)
        with plate("row", len(x)):
            sample("y", dist.Normal(net(x).squeeze(-1), 1.0), obs=y)


def nothing(*args):
    pass


def adam():
    return optim.Adam({"lr": 0.02})


DATA = (SIGMA, Y)
CASES = {
    "normal": lambda: (schools, AutoNormal(schools), adam(), Trace_ELBO(), DATA),
    "mean field": lambda: (schools, AutoNormal(schools), adam(), TraceMeanField_ELBO(), DATA),
    "delta": lambda: (schools, AutoDelta(schools), adam(), Trace_ELBO(), DATA),
    "diagonal": lambda: (schools, AutoDiagonalNormal(schools), adam(), Trace_ELBO(), DATA),
    "multivariate": lambda: (schools, AutoMultivariateNormal(schools), adam(), Trace_ELBO(), DATA),
    "low rank": lambda: (schools, AutoLowRankMultivariateNormal(schools, rank=2), adam(), Trace_ELBO(), DATA),
    "particles": lambda: (schools, AutoNormal(schools), adam(), Trace_ELBO(num_particles=5), DATA),
    "particles in a loop": lambda: (
        schools,
        AutoNormal(schools),
        adam(),
        Trace_ELBO(num_particles=2, vectorize_particles=False),
        DATA,
    ),
    "subsample": lambda: (subsampled, AutoNormal(subsampled), adam(), Trace_ELBO(), DATA),
    "mask and scale": lambda: (masked, by_hand, adam(), Trace_ELBO(), DATA),
    "score function": lambda: (mixture, mixture_guide, adam(), Trace_ELBO(), DATA),
    "network": lambda: (Network().model, nothing, adam(), Trace_ELBO(), (X, Y.repeat(2)[:12])),
    "float64": lambda: (masked, by_hand, adam(), Trace_ELBO(), (SIGMA.double(), Y.double())),
    "adamw": lambda: (schools, AutoNormal(schools), optim.AdamW({"lr": 0.02}), Trace_ELBO(), DATA),
    "amsgrad": lambda: (
        schools,
        AutoNormal(schools),
        optim.Adam({"lr": 0.02, "amsgrad": True}),
        Trace_ELBO(),
        DATA,
    ),
    "sgd": lambda: (schools, AutoNormal(schools), optim.SGD({"lr": 1e-3}), Trace_ELBO(), DATA),
    "momentum": lambda: (
        schools,
        AutoNormal(schools),
        optim.SGD({"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        Trace_ELBO(),
        DATA,
    ),
    "clipped": lambda: (
        schools,
        AutoNormal(schools),
        optim.ClippedAdam({"lr": 0.05, "clip_norm": 0.5, "lrd": 0.99}),
        Trace_ELBO(),
        DATA,
    ),
    "rmsprop": lambda: (
        schools,
        AutoNormal(schools),
        optim.RMSprop({"lr": 0.01, "centered": True, "momentum": 0.5}),
        Trace_ELBO(),
        DATA,
    ),
    "adagrad": lambda: (
        schools,
        AutoNormal(schools),
        optim.Adagrad({"lr": 0.1, "lr_decay": 0.1}),
        Trace_ELBO(),
        DATA,
    ),
    "clip args": lambda: (
        schools,
        AutoNormal(schools),
        optim.Optimizer(torch.optim.Adam, {"lr": 0.02}, clip_args={"clip_norm": 0.3}),
        Trace_ELBO(),
        DATA,
    ),
    "rates by name": lambda: (
        schools,
        AutoNormal(schools),
        optim.Adam(lambda name: {"lr": 0.1 if "locs" in name else 0.01}),
        Trace_ELBO(),
        DATA,
    ),
    "schedule": lambda: (
        schools,
        AutoNormal(schools),
        optim.Optimizer(
            torch.optim.Adam,
            {"lr": 0.1},
            schedule=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.95),
        ),
        Trace_ELBO(),
        DATA,
    ),
}


def train(case, compile, by_run, steps=50):
    clear_param_store()
    torch.manual_seed(0)
    model, guide, optimizer, loss, args = CASES[case]()
    svi = SVI(model, guide, optimizer, loss, compile=compile)
    if by_run:
        losses = svi.run(steps, *args, progress=False).tolist()
    else:
        losses = [svi.step(*args) for _ in range(steps)]
    values = {name: value.detach().clone() for name, value in get_param_store().items()}
    return svi, losses, values


def same(first, second):
    # Float32 rounding differs between kernels and is carried through 50 steps of Adam.
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], rtol=2e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("case", CASES)
def test_compiled_is_eager(any_way, case):
    # Batch norm and ReLU carry rounding further at every step.
    steps = 15 if case == "network" else 50
    _, losses, values = train(case, False, False, steps)
    svi, compiled_losses, compiled_values = train(case, True, True, steps)
    assert svi.compile_counters.traces == 1 and svi.compile_counters.fallbacks == 0
    assert compiled_losses == pytest.approx(losses, rel=2e-3, abs=2e-3)
    same(values, compiled_values)
    assert svi.steps == steps and len(svi.history) == steps


@pytest.mark.parametrize("case", ["normal", "schedule"])
def test_step_by_step_is_eager(recorded, case):
    _, losses, values = train(case, False, False, 20)
    svi, compiled_losses, compiled_values = train(case, True, False, 20)
    assert compiled_losses == pytest.approx(losses, rel=1e-3)
    same(values, compiled_values)
    assert svi.compile_counters.traces == 1


def test_through_the_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("BRANCHER_CACHE_DIR", str(tmp_path))
    _, losses, _ = train("normal", False, False, 30)
    svi, compiled_losses, _ = train("normal", True, True, 30)
    assert compiled_losses == pytest.approx(losses, rel=1e-3)
    assert svi.compile_counters.traces == svi.compile_counters.compiles == 1


def test_optimizer_state_and_leaves_stay_ordinary(recorded):
    svi, _, _ = train("normal", True, True, 10)
    eager, _, _ = train("normal", False, False, 10)
    svi2, _, _ = train("normal", True, False, 10)
    leaves = list(get_param_store().unconstrained().values())
    assert all(leaf.is_leaf and leaf.requires_grad for leaf in leaves)
    for name, state in svi2.optim.state_dict()["state"].items():
        expected = eager.optim.state_dict()["state"][name]
        for key, value in state.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4)
    assert svi.steps == 10


def test_eager_and_compiled_steps_mix(recorded):
    _, losses, values = train("momentum", False, False, 30)
    clear_param_store()
    torch.manual_seed(0)
    model, guide, optimizer, loss, args = CASES["momentum"]()
    svi = SVI(model, guide, optimizer, loss)
    mixed = []
    for compile in (True, False, True):
        mixed += svi.run(10, *args, progress=False, compile=compile).tolist()
    assert mixed == pytest.approx(losses, rel=1e-3)
    same(values, {name: value.detach() for name, value in get_param_store().items()})


def test_value_written_from_outside_is_seen(recorded):
    clear_param_store()
    svi = SVI(masked, by_hand, adam(), compile=True)
    svi.run(5, *DATA, progress=False)
    get_param_store()["loc"] = torch.tensor(100.0)
    svi.step(*DATA)
    assert abs(float(get_param_store()["loc"].detach()) - 100.0) < 1.0


def test_leaf_given_other_memory_is_seen(recorded):
    clear_param_store()
    svi = SVI(masked, by_hand, adam(), compile=True)
    svi.run(5, *DATA, progress=False)
    get_param_store().unconstrained()["loc"].data = torch.tensor(50.0)
    svi.step(*DATA)
    assert abs(float(get_param_store()["loc"].detach()) - 50.0) < 1.0


def test_smaller_last_batch_is_right(recorded):
    def rows(x, y):
        with plate("row", len(x)):
            sample("y", dist.Normal(param("w", torch.zeros(2)) @ x.T, 1.0), obs=y)

    def run(compile):
        clear_param_store()
        torch.manual_seed(0)
        loader = DataLoader(TensorDataset(X, X.sum(-1)), batch_size=5)
        svi = SVI(rows, nothing, adam(), compile=compile)
        return svi, svi.run(9, loader, progress=False)

    svi, compiled_losses = run(True)
    assert compiled_losses.tolist() == pytest.approx(run(False)[1].tolist(), rel=1e-4)
    assert svi.compile_counters.traces == 2


def test_train_and_eval_mode_are_told_apart(recorded):
    torch.manual_seed(0)
    network = Network()
    args = (X, Y.repeat(2)[:12])
    svi = SVI(network.model, nothing, optim.SGD({"lr": 0.0}), compile=True)
    svi.run(3, *args, progress=False)
    network.net.eval()
    losses = svi.run(3, *args, progress=False)
    assert losses.nunique() == 1  # dropout and batch norm rest
    assert svi.compile_counters.traces == 2


def located(x, y, shift=0.0, options=None):
    centre = (options or {}).get("centre", 0.0)
    with plate("row", len(x)):
        sample("y", dist.Normal(param("w", torch.zeros(2).to(x)) @ x.T + shift + centre, 1.0), obs=y)


def ordinary(x, y, **_):
    pass


def both_ways(*calls):
    """The loss at the start for each call's arguments, compiled (with what was traced) and eager."""
    clear_param_store()
    svi = SVI(located, ordinary, optim.SGD({"lr": 0.0}), compile=True)
    compiled_losses = []
    for args, kwargs in calls:
        svi.step(*args, **kwargs)  # a call of a new kind is checked eagerly
        compiled_losses.append(svi.step(*args, **kwargs))
    eager = [Trace_ELBO().loss(located, ordinary, *args, **kwargs) for args, kwargs in calls]
    assert compiled_losses == pytest.approx(eager, rel=1e-6)
    assert len({round(loss, 3) for loss in eager}) == len(eager)  # it would show
    return svi.compile_counters


def test_python_arguments_are_part_of_the_key(recorded):
    xy = (X, X.sum(-1))
    counters = both_ways(
        (xy, {}),
        (xy, {"shift": 1.0}),
        (xy, {"shift": 2.0}),
        (xy, {"options": {"centre": 3.0}}),
        (xy, {"options": {"centre": 4.0}}),
    )
    assert (counters.traces, counters.fallbacks) == (5, 0)


def test_tensor_arguments_are_inputs(recorded):
    xy = (X, X.sum(-1))
    counters = both_ways((xy, {"shift": torch.tensor(1.0)}), (xy, {"shift": torch.tensor(2.0)}))
    assert (counters.traces, counters.fallbacks) == (1, 0)


def test_shape_and_dtype_are_part_of_the_key(recorded):
    y = X.sum(-1) + 1.0
    counters = both_ways(((X, y), {}), ((X[:5], y[:5]), {}), ((X[:7], y[:7]), {}))
    assert (counters.traces, counters.fallbacks) == (3, 0)
    clear_param_store()
    svi = SVI(masked, by_hand, optim.SGD({"lr": 0.0}), compile=True)
    for args in (DATA, (SIGMA.double(), Y.double())):
        svi.run(3, *args, progress=False)
    assert svi.compile_counters.traces == 2


def test_tensor_from_a_closure_is_read_at_every_call(recorded):
    shift = torch.tensor(0.0)

    def model(x, y):
        located(x, y, shift=shift)

    svi = SVI(model, ordinary, optim.SGD({"lr": 0.0}), compile=True)
    first = svi.run(3, X, X.sum(-1), progress=False).iloc[-1]
    shift.fill_(5.0)
    second = svi.run(1, X, X.sum(-1), progress=False).iloc[-1]
    assert second > first + 100
    assert svi.compile_counters.traces == 1


def test_changed_learning_rate_is_an_input_and_changed_option_a_new_graph(recorded):
    def run(compile):
        clear_param_store()
        svi = SVI(masked, by_hand, optim.SGD({"lr": 1e-3, "momentum": 0.5}), compile=compile)
        torch.manual_seed(0)
        svi.run(5, *DATA, progress=False)
        for key, value in (("lr", 1e-2), ("momentum", 0.9)):
            for group in svi.optim.param_groups:
                group[key] = value
            svi.run(5, *DATA, progress=False)
        return svi.history, svi.compile_counters.traces

    losses, traces = run(True)
    assert losses == pytest.approx(run(False)[0], rel=1e-4)
    assert traces == 2


def test_new_parameter_in_the_middle_is_seen(recorded):
    wide = False

    def model(x, y):
        shift = param("shift", torch.tensor(1.0)) if wide else 0.0
        located(x, y, shift=shift)

    svi = SVI(model, ordinary, optim.SGD({"lr": 0.01}), compile=True)
    svi.run(3, X, X.sum(-1), progress=False)
    wide = True
    clear_param_store()
    svi.run(3, X, X.sum(-1), progress=False)
    assert float(get_param_store()["shift"].detach()) != 1.0


def test_batch_norm_buffers_move(recorded):
    network = Network()
    before = network.net[1].num_batches_tracked.clone()
    SVI(network.model, nothing, adam(), compile=True).run(7, X, Y.repeat(2)[:12], progress=False)
    assert network.net[1].num_batches_tracked - before == 7


def test_data_dependent_python_falls_back_with_one_warning(recorded):
    def branching(sigma, y):
        mu = sample("mu", dist.Normal(0.0, 5.0))
        loc = mu if mu > 0 else -mu
        with plate("school", 8):
            sample("y", dist.Normal(loc, sigma), obs=y)

    svi = SVI(branching, by_hand, adam(), compile=True)
    with pytest.warns(BrancherWarning, match=r"test_compiled_step.py.*torch.where"):
        svi.run(4, *DATA, progress=False)
    assert svi.steps == 4 and all(map(math.isfinite, svi.history))
    svi.run(4, *DATA, progress=False)


def test_optimizer_without_a_rule_falls_back_and_names_those_that_have_one(recorded):
    svi = SVI(masked, by_hand, optim.Rprop({"lr": 0.01}), compile=True)
    with pytest.warns(BrancherWarning, match="Rprop.*expected one of.*Adam"):
        svi.run(4, *DATA, progress=False)
    assert svi.steps == 4


def test_nan_is_found_where_it_happens(recorded):
    def fragile(sigma, y):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        rate = param("rate", torch.tensor(0.5))
        sample("y", dist.Normal(mu, torch.sqrt(rate)), obs=torch.tensor(30.0))

    def guide(sigma, y):
        sample("mu", dist.Normal(0.0, 1.0))

    def run(compile):
        clear_param_store()
        torch.manual_seed(0)
        svi = SVI(fragile, guide, optim.SGD({"lr": -0.0 + 0.001, "maximize": True}), compile=compile)
        with pytest.raises(NonFiniteError, match="site 'y'|rate"):
            svi.run(200, *DATA, progress=False)
        return svi.history, float(get_param_store()["rate"].detach())

    compiled_history, compiled_rate = run(True)
    history, rate = run(False)
    assert compiled_history == pytest.approx(history, rel=1e-3) and math.isfinite(compiled_rate)
    assert compiled_rate == pytest.approx(rate, rel=1e-3)


def test_checkpoint_of_a_compiled_run_goes_on(recorded, tmp_path):
    _, losses, values = train("normal", True, False, 20)
    first, _, _ = train("normal", True, False, 12)
    first.save(tmp_path / "run")
    clear_param_store()
    torch.manual_seed(77)
    model, guide, optimizer, loss, args = CASES["normal"]()
    second = SVI(model, guide, optimizer, loss, compile=True)
    second.load(tmp_path / "run")
    rest = [second.step(*args) for _ in range(8)]
    assert rest == pytest.approx(losses[12:], rel=1e-3)
    same(values, {name: value.detach() for name, value in get_param_store().items()})


def test_run_with_a_tolerance_stops_at_a_window(recorded):
    svi = SVI(masked, by_hand, optim.Adam({"lr": 0.1}), compile=True)
    history = svi.run(5000, *DATA, progress=False, tol=0.05)
    assert len(history) % 100 == 0 and 200 <= len(history) < 5000


def test_callback_sees_every_step(recorded):
    seen = []
    SVI(masked, by_hand, adam(), compile=True).run(
        6, *DATA, progress=False, callback=lambda s, _: seen.append(s)
    )
    assert seen == [1, 2, 3, 4, 5, 6]


def test_bad_setting_error():
    with pytest.raises(InferenceError, match="compile as True, False or 'auto'"):
        SVI(masked, by_hand, compile="yes")


def test_graph_that_fails_leaves_the_step_to_the_eager_path(recorded, monkeypatch):
    def model():
        sample("z", dist.Normal(0.0, 1.0))

    def run():
        torch.manual_seed(0)
        clear_param_store()
        svi = SVI(model, AutoNormal(model), compile=True)
        svi.step()
        return svi

    expected = run().step()
    svi = run()

    def fail(*args):
        torch.rand(3)
        raise RuntimeError("boom")

    monkeypatch.setattr(svi._compiled, "_call", fail)
    with pytest.warns(BrancherWarning, match="got RuntimeError: boom. Steps run eagerly"):
        assert svi.step() == pytest.approx(expected, rel=1e-5)
    svi.step()
