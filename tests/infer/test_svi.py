"""SVI: exact posteriors, what a failed step leaves behind, minibatches, checkpoints."""

from __future__ import annotations

import gc
import math

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from brancher import ParamStore, clear_param_store, get_param_store, module, optim, param, plate, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.errors import (
    BrancherWarning,
    GuideError,
    InferenceError,
    InferenceTypeError,
    NonFiniteError,
    OptimError,
    OptimTypeError,
)
from brancher.handlers import stack
from brancher.infer import SVI, Trace_ELBO, TraceMeanField_ELBO

DATA = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0])


def model(data=DATA):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", len(data)):
        sample("y", dist.Normal(mu, 1.0), obs=data)


def guide(data=DATA):
    loc = param("loc", torch.tensor(0.0))
    scale = param("scale", torch.tensor(1.0), constraint=constraints.positive)
    sample("mu", dist.Normal(loc, scale))


def values():
    return {name: value.detach().clone() for name, value in get_param_store().items()}


def snapshot(svi):
    leaves = {name: leaf.detach().clone() for name, leaf in get_param_store().unconstrained().items()}
    return leaves, svi.optim.state_dict()["state"], stack.current()


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_normal_normal_posterior(loss, traces_of_run):
    svi = SVI(model, guide, optim.ClippedAdam({"lr": 0.05, "lrd": 0.995}), loss(num_particles=20))
    svi.run(800, progress=False)
    assert svi.compile_counters.traces == traces_of_run
    # The closing rate of 1e-3 leaves an error far below these bounds.
    assert abs(float(values()["loc"]) - 10 / 6) < 0.01
    assert abs(float(values()["scale"]) - 6**-0.5) < 0.02 * 6**-0.5


def test_gamma_poisson_posterior(traces_of_run):
    counts = torch.tensor([3.0, 1.0, 4.0, 2.0])

    def poisson():
        rate = sample("rate", dist.Gamma(2.0, 1.0))
        with plate("row", 4):
            sample("y", dist.Poisson(rate), obs=counts)

    def gamma():
        shape = param("shape", torch.tensor(5.0), constraint=constraints.positive)
        sample("rate", dist.Gamma(shape, param("rate_", torch.tensor(5.0), constraint=constraints.positive)))

    svi = SVI(poisson, gamma, optim.Adam({"lr": 0.02}), TraceMeanField_ELBO(num_particles=50))
    svi.run(1500, progress=False)
    assert svi.compile_counters.traces == traces_of_run
    # Exact: Gamma(12, 5).
    assert abs(float(values()["shape"] / values()["rate_"]) - 12 / 5) < 0.05
    assert abs(float(values()["shape"].sqrt() / values()["rate_"]) - math.sqrt(12) / 5) < 0.04


def test_run_returns_the_losses_as_a_series():
    history = SVI(model, guide).run(7, progress=False)
    assert isinstance(history, pd.Series) and history.index.tolist() == list(range(1, 8))
    assert history.name == "loss" and history.notna().all()


def test_run_counts_on_from_the_last_step():
    svi = SVI(model, guide)
    svi.run(3, progress=False)
    assert svi.run(2, progress=False).index.tolist() == [4, 5]
    assert svi.steps == 5 and len(svi.history) == 5


def test_run_stops_when_the_callback_says_so():
    assert len(SVI(model, guide).run(50, progress=False, callback=lambda step, loss: step == 4)) == 4


def test_run_stops_when_the_loss_settles():
    history = SVI(model, guide, optim.Adam({"lr": 0.1})).run(5000, progress=False, tol=0.01)
    assert 200 <= len(history) < 5000


def test_run_keeps_what_it_has_when_interrupted():
    def interrupt(step, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.warns(BrancherWarning, match="interrupt after 3"):
        history = SVI(model, guide).run(10, progress=False, callback=interrupt)
    assert len(history) == 3


def test_run_shows_a_bar(capsys):
    SVI(model, guide).run(5, progress=True)
    assert "5/5" in capsys.readouterr().err


def test_run_goes_through_a_data_loader():
    sizes = []

    def seen(batch):
        sizes.append(len(batch))
        model(batch)

    loader = DataLoader(TensorDataset(DATA), batch_size=2)
    SVI(seen, guide).run(6, loader, progress=False)
    assert sizes[-6:] == [2, 2, 1, 2, 2, 1]


def test_empty_data_loader_error():
    with pytest.raises(InferenceError, match="DataLoader"):
        SVI(model, guide).run(1, DataLoader([]), progress=False)


def test_modules_are_trained():
    net = torch.nn.Linear(1, 1)

    def regression(x, y):
        module("net", net)
        with plate("row", len(x)):
            sample("y", dist.Normal(net(x).squeeze(-1), 0.1), obs=y)

    x = torch.linspace(-1, 1, 20).unsqueeze(-1)
    SVI(regression, lambda x, y: None, optim.Adam({"lr": 0.05})).run(
        600, x, 3 * x.squeeze(-1) + 1, progress=False
    )
    assert torch.allclose(net.weight, torch.tensor([[3.0]]), atol=0.05)
    assert torch.allclose(net.bias, torch.tensor([1.0]), atol=0.05)


def test_evaluate_loss_changes_nothing():
    svi = SVI(model, guide)
    svi.step()
    before = values()
    assert math.isfinite(svi.evaluate_loss())
    assert values() == before and svi.steps == 1


def test_own_store_stays_apart():
    store = ParamStore()
    SVI(model, guide, store=store).step()
    assert set(store.keys()) == {"loc", "scale"} and len(get_param_store()) == 0


def test_parameters_made_again_are_trained_by_the_old_optimizer():
    optimizer = optim.Adam({"lr": 0.1})
    SVI(model, guide, optimizer).step()
    clear_param_store()
    SVI(model, guide, optimizer).run(3, progress=False)
    assert float(values()["loc"]) != 0.0


def test_loss_function_of_ones_own():
    def simple(model, guide, *args):
        return (param("loc", torch.tensor(0.0)) - 3.0) ** 2

    SVI(model, guide, optim.Adam({"lr": 0.1}), simple).run(300, progress=False)
    assert abs(float(values()["loc"]) - 3.0) < 0.05


def test_float64_default_is_followed():
    torch.set_default_dtype(torch.float64)
    try:
        data = DATA.double()
        SVI(model, guide).run(2, data, progress=False)
        assert values()["loc"].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_checkpoint_goes_on_bit_for_bit(tmp_path):
    def fresh():
        clear_param_store()
        return SVI(model, guide, optim.Adam({"lr": 0.05}))

    torch.manual_seed(0)
    whole = fresh()
    expected = [whole.step() for _ in range(10)]
    final = values()
    torch.manual_seed(0)
    first = fresh()
    losses = [first.step() for _ in range(4)]
    first.save(tmp_path / "run")
    torch.manual_seed(99)
    second = fresh()
    second.load(tmp_path / "run")
    losses += [second.step() for _ in range(6)]
    assert losses == expected and values() == final
    assert second.steps == 10 and second.history == expected


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyboardInterrupt, SystemExit])
def test_failing_step_is_as_if_it_never_happened(kind):
    fail = []

    def fragile():
        model()
        if fail:
            raise kind("boom")

    def run(break_at):
        clear_param_store()
        torch.manual_seed(0)
        svi, losses = SVI(fragile, guide, optim.Adam({"lr": 0.1})), []
        for i in range(6):
            if i == break_at:
                fail.append(1)
                before = snapshot(svi)
                with pytest.raises(kind):
                    svi.step()
                assert snapshot(svi)[0] == before[0] and snapshot(svi)[2] == ()
                fail.clear()
            losses.append(svi.step())
        return losses

    assert run(3) == run(0) == run(None)


def test_failed_first_step_declares_nothing():
    def wrong_guide():
        param("loc", torch.tensor(0.0))

    with pytest.raises(GuideError):
        SVI(model, wrong_guide).step()
    assert len(get_param_store()) == 0


def test_gradient_field_is_left_alone():
    svi = SVI(model, guide)
    svi.step()
    leaf = get_param_store().unconstrained()["loc"]
    leaf.grad = torch.tensor(7.0)
    svi.step()
    assert leaf.grad == 7.0


def test_memory_does_not_grow():
    svi = SVI(model, guide)
    svi.step()

    def count():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    svi.step()
    before = count()
    for _ in range(300):
        svi.step()
    assert count() <= before + 2


def test_nan_loss_error_names_the_site_and_changes_nothing():
    poison = []

    def poisoned():
        mu = sample("mu", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(mu, float("nan") if poison else 1.0), obs=torch.tensor(0.0))

    svi = SVI(poisoned, guide, optim.Adam({"lr": 0.1}))
    svi.run(2, progress=False)
    before = snapshot(svi)
    poison.append(1)
    with pytest.raises(NonFiniteError, match="got nan; first bad site 'y'"):
        svi.step()
    assert snapshot(svi)[0] == before[0]
    poison.clear()
    assert math.isfinite(svi.step())


def test_nan_gradient_error_names_the_parameter():
    def rooted():
        param("root", torch.tensor(0.0))
        sample("y", dist.Normal(torch.sqrt(param("root") * 0.0), 1.0), obs=torch.tensor(0.0))

    svi = SVI(rooted, lambda: None)
    with pytest.raises(NonFiniteError, match=r"NaN or infinity for parameters \['root'\]"):
        svi.step()


def test_parameter_cut_off_from_the_loss_warns():
    def cut():
        loc = param("loc", torch.tensor(0.0))
        sample("y", dist.Normal(loc.detach(), 1.0), obs=torch.tensor(0.0))

    with pytest.warns(BrancherWarning, match=r"no gradient for \['loc'\].*detach"):
        SVI(cut, lambda: None).step()


def test_loss_class_error():
    with pytest.raises(InferenceTypeError, match="loss must be an instance"):
        SVI(model, guide, loss=Trace_ELBO)


def test_inference_mode_error():
    with torch.inference_mode(), pytest.raises(InferenceError, match="inference_mode"):
        SVI(model, guide).step()


def test_negative_learning_rate_error():
    with pytest.raises(OptimError, match="-1"):
        SVI(model, guide, optim.Adam({"lr": -1.0}))


def test_something_else_as_optimizer_error():
    with pytest.raises(OptimTypeError, match="optimizer"):
        SVI(model, guide, 3.5)


def test_bad_number_of_steps_error():
    with pytest.raises(InferenceError, match="num_steps"):
        SVI(model, guide).run(0)


@pytest.mark.parametrize("kind", ["class", "instance", "factory", "name"])
def test_torch_optimizers_are_accepted(kind):
    net = torch.nn.Linear(1, 1, bias=False)

    def trained():
        module("net", net)
        sample("y", dist.Normal(net(torch.ones(1, 1)).squeeze(), 1.0), obs=torch.tensor(5.0))

    made = {
        "class": torch.optim.SGD,
        "instance": torch.optim.SGD(net.parameters(), lr=0.1),
        "factory": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        "name": "SGD",
    }[kind]
    before = net.weight.detach().clone()
    SVI(trained, lambda: None, made).step()
    assert not torch.equal(net.weight, before)
