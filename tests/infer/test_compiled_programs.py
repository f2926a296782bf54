"""Compiled steps of programs with something unusual: how they loop, what they keep, what tensors they get."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch

from brancher import clear_param_store, get_param_store, handlers, module, optim, param, plate, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.errors import BrancherWarning, NonFiniteError
from brancher.infer import SVI, TraceMeanField_ELBO

X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(12, 2)
Y = X.sum(-1) + 0.3 * torch.cos(7 * X[:, 0])


@pytest.fixture(autouse=True)
def _in_float64():
    torch.set_default_dtype(torch.float64)  # the fixture of all tests puts it back


def guide(*_):
    loc, scale = param("loc", torch.zeros(2)), param("scale", torch.ones(2), constraint=constraints.positive)
    sample("w", dist.Normal(loc, scale).to_event(1))


def fit(model, *args, compile, steps=20):
    """Losses, parameters, counters and warnings of some steps."""
    clear_param_store()
    torch.manual_seed(0)
    svi = SVI(model, guide, optim.Adam({"lr": 0.02}), compile=compile)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        losses = svi.run(steps, *args, progress=False)
    values = {name: value.detach().clone() for name, value in get_param_store().items()}
    return torch.tensor(losses.to_numpy()), values, svi.compile_counters, [str(w.message) for w in told]


def check(model, *args, warning=None):
    """Compare with eager steps; a warning that is expected says that steps run eagerly."""
    losses, values, _, _ = fit(model, *args, compile=False)
    compiled_losses, compiled_values, counters, told = fit(model, *args, compile=True)
    torch.testing.assert_close(compiled_losses, losses, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(compiled_values, values, rtol=1e-8, atol=1e-8)
    if warning is None:
        assert (counters.traces, counters.fallbacks, told) == (1, 0, [])
    else:
        with pytest.warns(BrancherWarning, match=warning):
            warnings.warn(*told, BrancherWarning, stacklevel=1)


def test_plate_as_a_loop_is_compiled(recorded):
    def rows(x, y):
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        for i in plate("row", 12):
            sample(f"y_{i}", dist.Normal(x[i] @ w, 1.0), obs=y[i])

    check(rows, X, Y)


def test_plate_as_a_loop_over_drawn_rows_runs_eagerly_and_names_the_line(recorded):
    def rows(x, y):
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        for i in plate("row", 12, subsample_size=5):
            sample(f"y_{i}", dist.Normal(x[i] @ w, 1.0), obs=y[i])

    check(rows, X, Y, warning=r"Python that depends on a tensor's value at .*programs.py.*`sample.*eagerly")


def linear(x, y):
    w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with plate("row", 12):
        sample("y", dist.Normal((x @ w[:, None])[:, 0], 1.0), obs=y)


def test_sparse_data_run_eagerly_and_say_so(recorded):
    check(linear, X.to_sparse(), Y, warning=r"expected a dense tensor.*sparse_coo.*to_dense.*eagerly")


def test_lazily_negated_data_run_eagerly_and_say_so(recorded):
    negated = torch.complex(X, Y[:, None].expand(12, 2)).conj().imag[:, 0]
    assert negated.is_neg()
    check(linear, X, negated, warning=r"got a view that negates.*resolve_neg.*eagerly")


@pytest.mark.parametrize("first", [0, 1])
def test_parameters_that_some_arguments_leave_alone_stay_where_they_are(recorded, first):
    def model(x, y, is_shifted):
        mean = x @ param("slope", torch.zeros(2))
        if is_shifted:
            mean = mean + param("shift", torch.tensor(0.0))
        with plate("row", 12):
            sample("y", dist.Normal(mean, 1.0), obs=y)

    def train(make_optimizer, compile):
        clear_param_store()
        torch.manual_seed(0)
        svi = SVI(model, lambda *_: None, make_optimizer(), compile=compile)
        turns = [(turn + first) % 2 == 0 for turn in range(4)]
        losses = [loss for turn in turns for loss in svi.run(5, X, Y, turn, progress=False)]
        return svi, torch.tensor(losses), {name: value.detach() for name, value in get_param_store().items()}

    for make_optimizer in (
        lambda: optim.Adam({"lr": 0.05}),
        lambda: optim.AdamW({"lr": 0.05, "weight_decay": 0.3}),
        lambda: optim.SGD({"lr": 0.005, "momentum": 0.9}),
    ):
        _, losses, values = train(make_optimizer, False)
        svi, compiled_losses, compiled_values = train(make_optimizer, True)
        # The shift has taken fewer steps than the slope when it is moved again: another graph.
        assert svi.compile_counters.traces in (2, 3) and svi.compile_counters.fallbacks == 0
        torch.testing.assert_close(compiled_losses, losses, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(compiled_values, values, rtol=1e-8, atol=1e-8)


def test_frozen_part_of_a_module_stays_until_it_is_trained_again(recorded):
    def train(compile):
        clear_param_store()
        torch.manual_seed(0)
        network = torch.nn.Linear(2, 1)

        def model(x, y):
            mean = module("network", network)(x)[:, 0]
            with plate("row", 12):
                sample("y", dist.Normal(mean, 1.0), obs=y)

        svi = SVI(model, lambda *_: None, optim.Adam({"lr": 0.05}), compile=compile)
        losses, bias = [], []
        for is_trained in (True, False, True):
            network.bias.requires_grad_(is_trained)
            losses += list(svi.run(6, X, Y, progress=False))
            bias.append(network.bias.detach().clone())
        return torch.tensor(losses), bias, network.state_dict()

    (losses, _, values), (compiled_losses, bias, compiled_values) = train(False), train(True)
    torch.testing.assert_close(compiled_losses, losses, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(compiled_values, values, rtol=1e-8, atol=1e-8)
    assert torch.equal(bias[0], bias[1]) and not torch.equal(bias[1], bias[2])


def test_handler_around_a_step_is_seen_with_one_warning(recorded):
    def train(compile):
        clear_param_store()
        torch.manual_seed(0)
        svi = SVI(linear, guide, optim.Adam({"lr": 0.05}), compile=compile)
        losses = list(svi.run(4, X, Y, progress=False))
        with handlers.scale(scale=3.0):
            losses += list(svi.run(4, X, Y, progress=False))
        with handlers.scale(scale=2.0):
            losses += [svi.step(X, Y) for _ in range(3)]
        with handlers.seed(rng_seed=5):
            losses += list(svi.run(4, X, Y, progress=False))
        losses += list(svi.run(4, X, Y, progress=False))
        return svi, torch.tensor(losses)

    _, losses = train(False)
    with pytest.warns(
        BrancherWarning, match=r"expected no handler around a compiled step, got 'scale'"
    ) as told:
        svi, compiled_losses = train(True)
    assert len(told) == 1
    assert (svi.compile_counters.traces, svi.compile_counters.fallbacks) == (1, 0)
    torch.testing.assert_close(compiled_losses, losses, rtol=1e-9, atol=1e-9)


def test_model_loss_and_optimizer_may_be_replaced(recorded):
    def regression(x, y):
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with plate("row", 12):
            sample("y", dist.Normal((x * w).sum(-1), 1.0), obs=y)

    def train(compile):
        clear_param_store()
        torch.manual_seed(0)
        svi = SVI(regression, guide, optim.Adam({"lr": 0.05}), compile=compile)
        losses = list(svi.run(5, X, Y, progress=False))
        svi.model = lambda x, y: regression(2 * x, y)
        losses += list(svi.run(5, X, Y, progress=False))
        svi.loss = TraceMeanField_ELBO()
        losses += list(svi.run(5, X, Y, progress=False))
        svi.loss.num_particles = 3
        losses += list(svi.run(5, X, Y, progress=False))
        svi.optim = optim.SGD({"lr": 1e-3, "momentum": 0.9})
        losses += list(svi.run(5, X, Y, progress=False))
        return svi, torch.tensor(losses), {name: value.detach() for name, value in get_param_store().items()}

    (_, losses, values), (svi, compiled_losses, compiled_values) = train(False), train(True)
    torch.testing.assert_close(compiled_losses, losses, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(compiled_values, values, rtol=1e-8, atol=1e-8)
    assert (svi.compile_counters.traces, svi.compile_counters.fallbacks) == (5, 0)


@pytest.mark.parametrize("by_run", [True, False])
def test_what_the_model_counts_in_place_is_eager_up_to_a_bad_step(recorded, by_run):
    def train(compile):
        clear_param_store()
        torch.manual_seed(0)
        count = torch.zeros(())

        def model(x, y):
            count.add_(1)
            linear(torch.where(count > 12, torch.nan, x), y)

        svi = SVI(model, guide, optim.Adam({"lr": 0.05}), compile=compile)
        with pytest.raises(NonFiniteError):
            if by_run:
                svi.run(30, X, Y, progress=False)
            else:
                [svi.step(X, Y) for _ in range(30)]
        return float(count), torch.tensor(svi.history)

    (count, losses), (compiled_count, compiled_losses) = train(False), train(True)
    assert compiled_count == count
    torch.testing.assert_close(compiled_losses, losses, rtol=1e-9, atol=1e-9)


def test_numbers_that_never_come_again_are_told_of_once(recorded):
    def annealed(x, y, weight):
        with handlers.scale(scale=weight):
            linear(x, y)

    def train(compile):
        clear_param_store()
        torch.manual_seed(0)
        svi = SVI(annealed, lambda *_: guide(), optim.Adam({"lr": 0.05}), compile=compile)
        return svi, torch.tensor([svi.step(X, Y, (k + 1) / 40) for k in range(40)])

    _, losses = train(False)
    with pytest.warns(
        BrancherWarning, match="expected arguments that come again, got 32 kinds.*tensors"
    ) as told:
        svi, compiled_losses = train(True)
    assert len(told) == 1 and svi.compile_counters.traces == 0
    assert torch.equal(compiled_losses, losses)


def test_hooks_on_parameters_are_called_with_one_warning(recorded):
    norms = []

    def train(compile):
        clear_param_store()
        torch.manual_seed(0)
        norms.clear()
        svi = SVI(linear, guide, optim.Adam({"lr": 0.05}), compile=compile)
        losses = list(svi.run(4, X, Y, progress=False))
        leaf = get_param_store().unconstrained()["loc"]
        handle = leaf.register_hook(lambda grad: norms.append(float(grad.norm())))
        losses += list(svi.run(4, X, Y, progress=False))
        handle.remove()
        losses += list(svi.run(4, X, Y, progress=False))
        return svi, torch.tensor(losses), list(norms)

    _, losses, called = train(False)
    with pytest.warns(BrancherWarning, match="without hooks, got some.*handle.remove.*eagerly") as told:
        svi, compiled_losses, compiled_called = train(True)
    assert len(told) == 1 and len(called) == 4
    assert compiled_called == pytest.approx(called)
    assert (svi.compile_counters.traces, svi.compile_counters.fallbacks) == (1, 0)
    torch.testing.assert_close(compiled_losses, losses, rtol=1e-9, atol=1e-9)


def test_hooks_on_the_optimizer_are_called(recorded):
    clear_param_store()
    svi = SVI(linear, guide, optim.Adam({"lr": 0.05}), compile=True)
    svi.run(4, X, Y, progress=False)
    calls = []
    svi.optim.torch_optimizer.register_step_post_hook(lambda *_: calls.append(1))
    with pytest.warns(BrancherWarning, match="an optimizer without hooks"):
        svi.run(3, X, Y, progress=False)
    assert len(calls) == 3


@dataclasses.dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor
    weight: float = 1.0


def test_batches_that_are_dataclasses_are_compiled(recorded):
    def model(batch):
        with handlers.scale(scale=batch.weight):
            linear(batch.x, batch.y)

    def train(compile):
        clear_param_store()
        torch.manual_seed(0)
        svi = SVI(model, guide, optim.Adam({"lr": 0.05}), compile=compile)
        batches = [Batch(X * (1 + step), Y, 1.0 + step // 6) for step in range(12)]
        return svi, torch.tensor([svi.step(batch) for batch in batches])

    (_, losses), (svi, compiled_losses) = train(False), train(True)
    torch.testing.assert_close(compiled_losses, losses, rtol=1e-9, atol=1e-9)
    assert (svi.compile_counters.traces, svi.compile_counters.fallbacks) == (2, 0)


def test_argument_that_can_not_be_part_of_a_graph_is_named(recorded):
    def chosen(x, y, rows):
        linear(x, y)

    check(chosen, X, Y, {1, 2}, warning=r"SVI.step', args\[2\]: expected a tensor.*got set")


def test_seed_that_is_set_inside_the_model_is_set_at_every_step(recorded):
    def rows(x, y):
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with plate("row", 12, subsample_size=4) as some:
            sample("y", dist.Normal(x[some] @ w, 1.0), obs=y[some])

    check(
        handlers.seed(rows, rng_seed=3),
        X,
        Y,
        warning="^seed: expected random draws only.*put it around.*eagerly",
    )
