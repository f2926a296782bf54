"""Compiled steps of programs with something unusual: how they loop, what they keep, what tensors they get."""

from __future__ import annotations

import warnings

import pytest
import torch

from brancher import clear_param_store, get_param_store, optim, param, plate, sample
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.errors import BrancherWarning
from brancher.infer import SVI

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
