"""``Predictive`` and ``log_likelihood`` compiled, and programs written by ``export``."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from brancher import clear_param_store, get_param_store, optim, param, plate, sample
from brancher import distributions as dist
from brancher.errors import BrancherWarning, InferenceError, InferenceTypeError
from brancher.infer import SVI, Predictive, export, log_density, log_likelihood
from brancher.infer.autoguide import AutoNormal
from brancher.infer.log_likelihood import _compiled_runs
from brancher.staging import StagingError

X = torch.linspace(-1.0, 1.0, 6)
DRAWS = {"w": torch.randn(40, generator=torch.Generator().manual_seed(1)), "s": torch.linspace(0.5, 2.0, 40)}


def line(x, y=None, shift=0.0):
    w = sample("w", dist.Normal(0.0, 1.0))
    s = sample("s", dist.Gamma(2.0, 1.0))
    with plate("row", len(x)):
        return sample("y", dist.Normal(w * x + shift, s), obs=y)


def fixed_rank(x, y=None):
    w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with plate("row", len(x)):
        return sample("y", dist.Normal(x @ w, 1.0), obs=y)


def called(predictive, *args, seed=0, **kwargs):
    torch.manual_seed(seed)
    return predictive(*args, **kwargs)


def same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("given", [True, False])
def test_predictive_compiled_is_eager(any_way, given):
    options = {"posterior_samples": DRAWS} if given else {"num_samples": 40}
    compiled = Predictive(line, **options, compile=True)
    for seed in (0, 1):
        same(called(Predictive(line, **options), X, seed=seed), called(compiled, X, seed=seed))
    assert (compiled.compile_counters.traces, compiled.compile_counters.fallbacks) == (1, 0)


def test_predictive_of_a_guide_follows_its_parameters(recorded):
    guide = AutoNormal(line)
    SVI(line, guide, optim.Adam({"lr": 0.1})).run(5, X, 2.0 * X, progress=False, compile=False)
    eager, compiled = (Predictive(line, guide=guide, num_samples=30, compile=c) for c in (False, True))
    same(called(eager, X), called(compiled, X))
    get_param_store()["AutoNormal.locs.w"] = torch.tensor(7.0)
    same(called(eager, X), called(compiled, X))
    assert abs(float(called(compiled, X)["w"].mean()) - 7.0) < 1.0
    assert compiled.compile_counters.traces == 1


def test_parameters_made_anew_are_seen(recorded):
    def model(x):
        with plate("row", len(x)):
            sample("y", dist.Normal(x + param("shift", torch.tensor(1.0)), 0.01))

    compiled = Predictive(model, num_samples=20, compile=True)
    first = called(compiled, X)["y"].mean()
    clear_param_store()
    param("shift", torch.tensor(5.0))
    assert float(called(compiled, X)["y"].mean() - first) == pytest.approx(4.0, abs=1e-4)


def test_shapes_and_python_arguments_are_part_of_the_key(recorded):
    eager, compiled = (Predictive(line, DRAWS, compile=c) for c in (False, True))
    for args, kwargs in (((X,), {}), ((X[:4],), {}), ((X,), {"shift": 3.0}), ((X + 1.0,), {})):
        same(called(eager, *args, **kwargs), called(compiled, *args, **kwargs))
    assert compiled.compile_counters.traces == 3  # the last call has the first one's shapes


def test_batches_are_compiled_by_their_size(recorded):
    eager, compiled = (Predictive(line, DRAWS, batch_size=15, compile=c) for c in (False, True))
    same(called(eager, X), called(compiled, X))
    assert compiled.compile_counters.traces == 2  # 15, 15, and 10 that are left


def test_draws_in_lanes_are_compiled(recorded):
    x = torch.linspace(-1.0, 1.0, 12).reshape(6, 2)
    given = {"w": torch.randn(40, 2)}
    eager, compiled = (Predictive(fixed_rank, given, compile=c) for c in (False, True))
    same(called(eager, x), called(compiled, x))
    assert compiled.reason is not None and compiled.compile_counters.fallbacks == 0


def test_draws_one_by_one_run_eagerly_and_say_so(recorded):
    compiled = Predictive(line, DRAWS, parallel=False, compile=True)
    with pytest.warns(BrancherWarning, match="Predictive: expected draws that run together"):
        got = called(compiled, X)
    same(called(Predictive(line, DRAWS, parallel=False), X), got)
    called(compiled, X)  # told once


def test_model_that_needs_a_value_runs_eagerly_and_says_so(recorded):
    def model(x):
        loc = x if float(x.sum()) > 0 else -x
        with plate("row", len(x)):
            sample("y", dist.Normal(loc, 1.0))

    compiled = Predictive(model, num_samples=20, compile=True)
    with pytest.warns(BrancherWarning, match=r"test_compiled_runs.py.*torch.where"):
        got = called(compiled, X)
    same(called(Predictive(model, num_samples=20), X), got)


def test_setting_error():
    with pytest.raises(InferenceError, match="compile as True or False"):
        Predictive(line, num_samples=3, compile="auto")


def test_log_likelihood_compiled_is_eager(any_way):
    y = torch.cos(X)
    before = _compiled_runs(line).counters.traces
    for scale in (1.0, 2.0):
        draws = {name: value * scale for name, value in DRAWS.items()}
        same(log_likelihood(line, draws, X, y), log_likelihood(line, draws, X, y, compile=True))
    assert _compiled_runs(line).counters.traces == before + 1
    assert _compiled_runs(line).counters.fallbacks == 0


def run_alone(code, folder):
    """The output of a program that must not find this library."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, torch\n{code}\nassert 'brancher' not in sys.modules"],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.slow
def test_posterior_predictive_is_exported(tmp_path):
    path = export(Predictive(line, DRAWS), tmp_path / "predictive.pt2", X)
    code = f"""
f = torch.export.load({str(path)!r}).module()
torch.manual_seed(3)
for value in (f(torch.ones(6))["y"], f(torch.ones(6))["y"]):
    print(tuple(value.shape) == (40, 6), float(value.double().mean()))"""
    found = run_alone(code, tmp_path)
    torch.manual_seed(3)
    means = [float(Predictive(line, DRAWS)(torch.ones(6))["y"].double().mean()) for _ in range(2)]
    assert found[::2] == ["True", "True"]
    assert [float(text) for text in found[1::2]] == pytest.approx(means, rel=1e-5)


@pytest.mark.slow
def test_log_density_is_exported_with_its_gradient(tmp_path):
    y = torch.cos(X)

    def value_and_gradient(w, s):
        leaves = {"w": w.detach().requires_grad_(), "s": s.detach().requires_grad_()}
        value = log_density(line, (X, y), leaves)
        return value, torch.autograd.grad(value, list(leaves.values()))

    at = (torch.tensor(0.3), torch.tensor(1.2))
    path = export(value_and_gradient, tmp_path / "density.pt2", *at)
    code = f"""
f = torch.export.load({str(path)!r}).module()
print(*map(float, f(torch.tensor(0.7), torch.tensor(0.9))))"""
    value, gradient = value_and_gradient(torch.tensor(0.7), torch.tensor(0.9))
    assert [float(t) for t in run_alone(code, tmp_path)] == pytest.approx(
        [float(value.detach()), *map(float, gradient)], rel=1e-5
    )


def test_export_refusals(tmp_path):
    with pytest.raises(InferenceTypeError, match="a Predictive or a function, got int"):
        export(3, tmp_path / "f.pt2")
    with pytest.raises(InferenceTypeError, match="expected a path as the second argument, got Tensor"):
        export(Predictive(line, DRAWS), X)
    with pytest.raises(InferenceError, match="expected draws that run together"):
        export(Predictive(line, DRAWS, parallel=False), tmp_path / "f.pt2", X)
    with pytest.raises(StagingError, match="depends on a tensor's value"):
        export(lambda x: x if x > 0 else -x, tmp_path / "f.pt2", torch.tensor(1.0))
    with pytest.raises(StagingError, match="expected a function that gives tensors, got none"):
        export(lambda x: 3.0, tmp_path / "f.pt2", torch.tensor(1.0))
    assert list(tmp_path.iterdir()) == []
