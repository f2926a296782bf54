"""Python values around a model, changed between compiled calls: never old numbers."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from brancher import clear_param_store, module, optim, param, plate, sample
from brancher import distributions as dist
from brancher.errors import BrancherWarning
from brancher.handlers import condition
from brancher.infer import SVI, Predictive, log_likelihood
from brancher.infer.autoguide import AutoNormal
from brancher.infer.log_likelihood import _compiled_runs
from brancher.params import ParamStore
from brancher.staging import surroundings

pytestmark = pytest.mark.usefixtures("any_way")

Y = torch.tensor([1.0, 2.0, 0.5])
prior_scale = 1.0


def scaled(y=None):
    mu = sample("mu", dist.Normal(0.0, prior_scale))
    with plate("row", 3):
        return sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.fixture
def scale(monkeypatch):
    return lambda value: monkeypatch.setitem(globals(), "prior_scale", value)


def steps_agree(compiled, eager, *args):
    for seed in range(3):
        torch.manual_seed(seed)
        got = compiled.step(*args)
        torch.manual_seed(seed)
        assert got == pytest.approx(eager.step(*args), rel=1e-5)


def both(model, guide=None):
    return [
        SVI(
            model,
            guide or AutoNormal(model),
            optim.Adam({"lr": 0.05}),
            store=ParamStore(),
            compile=compile,
        )
        for compile in (True, False)
    ]


def test_a_global_of_the_model(scale):
    compiled, eager = both(scaled)
    for value, traces in [(1.0, 1), (3.0, 2), (1.0, 2), (3.0, 2)]:
        scale(value)
        steps_agree(compiled, eager, Y)
        assert compiled.compile_counters.traces == traces
    assert compiled.compile_counters.fallbacks == 0


def test_run_sees_a_change_between_calls(scale):
    compiled, eager = both(scaled)
    for value in (1.0, 3.0):
        scale(value)
        torch.manual_seed(1)
        got = compiled.run(20, Y, progress=False)
        torch.manual_seed(1)
        expected = eager.run(20, Y, progress=False)
        torch.testing.assert_close(
            torch.tensor(got.to_numpy()), torch.tensor(expected.to_numpy()), rtol=1e-5, atol=1e-5
        )
    assert compiled.compile_counters.traces == 2


def test_run_sees_a_change_by_a_callback(scale):
    compiled, eager = both(scaled)
    losses = []
    for svi in (compiled, eager):
        scale(1.0)
        torch.manual_seed(2)
        losses.append(svi.run(9, Y, progress=False, callback=lambda step, _loss: scale(1.0 + step // 3)))
    assert losses[0].to_list() == pytest.approx(losses[1].to_list(), rel=1e-5)
    assert compiled.compile_counters.traces == 3


def test_a_branch_with_another_site_and_another_parameter():
    is_wide = False

    def model(y):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        spread = param("spread", torch.tensor(1.0), constraint=dist.constraints.positive) if is_wide else 1.0
        with plate("row", 3):
            sample("y", dist.Normal(mu, spread), obs=y)

    compiled, eager = both(model)
    steps_agree(compiled, eager, Y)
    is_wide = True
    steps_agree(compiled, eager, Y)
    is_wide = False
    steps_agree(compiled, eager, Y)


def test_a_closure_of_the_guide_and_an_object_below_a_handler():
    class Model:
        def __init__(self):
            self.noise = 1.0

        def __call__(self):
            mu = sample("mu", dist.Normal(0.0, 1.0))
            with plate("row", 3):
                sample("y", dist.Normal(mu, self.noise))

    def guide():
        sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), spread))

    model, spread = Model(), 0.5
    compiled, eager = both(condition(model, {"y": Y}), guide)
    steps_agree(compiled, eager)
    model.noise = 0.2
    steps_agree(compiled, eager)
    spread = 0.1
    steps_agree(compiled, eager)
    assert compiled.compile_counters.traces == 3


def test_a_layer_that_is_put_in_place_of_another():
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))

    def model(y):
        module("net", net)
        with plate("row", 3):
            sample("y", dist.Normal(net(torch.ones(3, 1))[:, 0], 1.0), obs=y)

    compiled = SVI(model, lambda y: None, optim.Adam({"lr": 0.05}), compile=True)
    before = [compiled.step(Y) for _ in range(3)][-1]
    net[1] = nn.Hardtanh(-1e-3, 1e-3)
    eager = SVI(model, lambda y: None, optim.Adam({"lr": 0.05}), compile=False)
    expected = eager.evaluate_loss(Y)
    assert abs(expected - before) > 1e-3
    assert compiled.step(Y) == pytest.approx(expected, rel=1e-5)
    expected = eager.evaluate_loss(Y)
    assert compiled.step(Y) == pytest.approx(expected, rel=1e-5)


def test_values_that_change_all_the_time_end_it_with_one_warning(scale, monkeypatch):
    monkeypatch.setattr(surroundings, "MOST_STATES", 2)
    compiled, eager = both(scaled)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for value in range(1, 6):
            scale(float(value))
            steps_agree(compiled, eager, Y)
    assert [str(warning.message) for warning in told] == [
        "SVI.step: expected Python values around model and guide that stay, got many changes, the last one "
        "of 'prior_scale'; pass it as an argument, as a tensor. Steps run eagerly."
    ]
    assert compiled.compile_counters.traces == 2


def test_a_model_that_counts_its_runs_is_recorded_once():
    runs, last = [], None

    def model(y):
        nonlocal last
        runs.append(1)
        mu = sample("mu", dist.Normal(0.0, 1.0))
        last = mu.detach()
        with plate("row", 3):
            sample("y", dist.Normal(mu, 1.0), obs=y)

    compiled = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.05}), compile=True)
    for _ in range(5):
        compiled.step(Y)
        compiled.run(2, Y, compile=False, progress=False)
    assert (compiled.compile_counters.traces, compiled.compile_counters.fallbacks) == (1, 0)
    assert last is not None


class Counting:
    def __init__(self):
        self.runs, self.state = 0, {"beta": 0.0}

    def by_attribute(self, y):
        self.runs += 1
        self.given(y, 1.0 + self.runs)

    def by_entry(self, y):
        self.state["beta"] += 0.1
        self.given(y, 1.0 + self.state["beta"])

    def given(self, y, spread):
        mu = sample("mu", dist.Normal(0.0, spread))
        with plate("row", 3):
            sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.mark.parametrize(("way", "name"), [("by_attribute", "runs"), ("by_entry", "state")])
def test_a_number_that_each_run_changes_keeps_steps_eager(way, name):
    losses = []
    for compile in (True, False):
        model = getattr(Counting(), way)
        svi = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.05}), store=ParamStore(), compile=compile)
        told = pytest.warns(BrancherWarning, match=f"Counting.{name}', which every run changes")
        with told if compile else nullcontext():
            torch.manual_seed(5)
            losses.append([svi.step(Y) for _ in range(4)])
    assert losses[0] == losses[1]


def test_predictive_and_log_likelihood(scale):
    noise = 1.0

    def model(y=None):
        mu = sample("mu", dist.Normal(0.0, prior_scale))
        with plate("row", 3):
            return sample("y", dist.Normal(mu, noise), obs=y)

    predictive = Predictive(model, num_samples=20, compile=True)
    draws = {"mu": torch.linspace(-1.0, 1.0, 20)}
    for traces, (value, of_noise) in [(1, (1.0, 1.0)), (2, (2.0, 1.0)), (3, (2.0, 0.5)), (3, (1.0, 1.0))]:
        scale(value)
        noise = of_noise
        torch.manual_seed(3)
        got = predictive()["y"]
        torch.manual_seed(3)
        torch.testing.assert_close(got, Predictive(model, num_samples=20)()["y"], rtol=1e-5, atol=1e-6)
        assert predictive.compile_counters.traces == traces
        got = log_likelihood(model, draws, Y, compile=True)["y"]
        torch.testing.assert_close(got, log_likelihood(model, draws, Y)["y"], rtol=1e-5, atol=1e-6)
    assert _compiled_runs(model).counters.traces == 3


def test_values_that_change_all_the_time_make_predictions_eager(scale, monkeypatch):
    monkeypatch.setattr(surroundings, "MOST_STATES", 2)
    predictive = Predictive(scaled, num_samples=5, compile=True)
    with pytest.warns(BrancherWarning, match="many changes, the last one of 'prior_scale'"):
        for value in range(1, 6):
            scale(float(value))
            torch.manual_seed(4)
            got = predictive()["mu"]
            torch.manual_seed(4)
            torch.testing.assert_close(got, Predictive(scaled, num_samples=5)()["mu"], rtol=1e-5, atol=1e-6)


class _Recurrent(torch.nn.Module):
    def __init__(self, is_buffer):
        super().__init__()
        if is_buffer:
            self.register_buffer("state", torch.zeros(()))
        else:
            self.state = torch.zeros(())

    def forward(self, y):
        mu = sample("mu", dist.Normal(0.5 * self.state, 1.0))
        self.state = (0.5 * self.state + mu).detach()
        with plate("row", 3):
            sample("y", dist.Normal(mu, 1.0), obs=y)


def _guide(y):
    sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))


@pytest.mark.parametrize("is_buffer", [True, False])
def test_a_tensor_that_is_handed_on_by_another_makes_steps_eager(is_buffer):
    def train(compile):
        clear_param_store()
        torch.manual_seed(0)
        model = _Recurrent(is_buffer)
        svi = SVI(model, _guide, optim.Adam({"lr": 0.05}), compile=compile)
        return [svi.step(Y) for _ in range(6)], model.state

    losses, state = train(False)
    with pytest.warns(
        BrancherWarning, match=r"got '_Recurrent\.state', which is read and then replaced.*copy_"
    ):
        compiled_losses, compiled_state = train(True)
    assert compiled_losses == losses and torch.equal(compiled_state, state)


def test_what_the_model_keeps_is_never_part_of_a_recording():
    kept, table, last = [], {}, None

    def model(y):
        nonlocal last
        mu = sample("mu", dist.Normal(0.0, 1.0))
        last = table["mu"] = mu.detach()
        kept.append(last)
        with plate("row", 3):
            sample("y", dist.Normal(mu, 1.0), obs=y)

    svi = SVI(model, _guide, optim.Adam({"lr": 0.05}), compile=True)
    for _ in range(3):
        svi.step(Y)
    assert (svi.compile_counters.traces, svi.compile_counters.fallbacks) == (1, 0)
    assert [type(value) for value in (*kept, table["mu"], last)] == [torch.Tensor] * 3
    assert float(last) == float(kept[0])
