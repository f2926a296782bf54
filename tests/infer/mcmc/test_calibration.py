"""Simulation-based calibration: it accepts what is right and refuses what is wrong."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import brancher.distributions as dist
from brancher import handlers, plate, sample
from brancher.errors import BrancherWarning, InferenceError, UnknownNameError
from brancher.infer.mcmc import HMC, NUTS, SBC, ChEES, RandomWalk
from brancher.infer.mcmc.random_walk import RandomWalkKernel

_spec = importlib.util.spec_from_file_location("small_models", Path(__file__).with_name("small_models.py"))
small_models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small_models)


def model(y=None):
    with plate("row", coords=["a", "b"]):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(mu, 1.0), obs=y)


def make(kernel=None, observed=("y",), simulations=20, samples=3, **options):
    options = {"thin": 1, "warmup_steps": 5, "compile": False, "seed": 0, "progress": False, **options}
    return SBC(kernel or HMC(model, step_size=1.0, num_steps=2), observed, simulations, samples, **options)


@pytest.fixture(scope="module")
def ran():
    sbc = make()
    sbc.run()
    return sbc


def test_table_is_labelled_by_coords(ran):
    table = ran.table()
    assert list(table.index) == ["mu[a]", "mu[b]", "log_joint"]
    assert set(table) == {"mean_rank", "chi2", "dof", "p_value", "ess"} and "mu[a]" in str(ran)


def test_ranks_have_a_row_a_simulation(ran):
    frame = ran.to_frame()
    assert frame.shape == (20, 3) and int(frame.min().min()) >= 0 and int(frame.max().max()) <= 3


def test_same_seed_same_ranks(ran):
    again = make()
    again.run()
    assert torch.equal(again.ranks["mu"], ran.ranks["mu"])


def test_data_given_tell_what_is_observed(ran):
    sbc = make(observed=None)
    sbc.run(torch.zeros(2))
    assert torch.equal(sbc.ranks["mu"], ran.ranks["mu"])


def test_p_value_is_that_of_the_chi_square_law(ran):
    chi2 = pytest.importorskip("scipy.stats").chi2
    row = ran.table().loc["mu[a]"]
    assert row["p_value"] == pytest.approx(chi2.sf(row["chi2"], row["dof"]), rel=1e-6)


def test_model_without_lanes_runs():
    def branching(y=None):
        mu = sample("mu", dist.Normal(0.0, 1.0))
        scale = 1.0 if float(mu.detach()) > 0 else 2.0
        sample("y", dist.Normal(mu, scale), obs=y)

    sbc = make(HMC(branching, step_size=0.5, num_steps=1), simulations=4, warmup_steps=1)
    sbc.run()
    assert sbc.ranks["mu"].shape == (4,)


def test_run_leaves_no_handler_and_no_random_state_behind():
    before = torch.get_rng_state()
    make(simulations=4, warmup_steps=0).run()
    assert handlers.stack.current() == () and torch.equal(before, torch.get_rng_state())


def test_misspelt_observed_site_error():
    with pytest.raises(UnknownNameError, match="observed 'yy'.*did you mean 'y'"):
        make(observed=["yy"]).run()


def test_nothing_observed_error():
    with pytest.raises(InferenceError, match="expected observed sites"):
        make(observed=None).run()


def test_chees_error():
    with pytest.raises(TypeError, match="a chain of its own"):
        SBC(ChEES(model))


@pytest.mark.parametrize("name", ["simulations", "samples", "thin", "warmup_steps"])
def test_bad_number_error(name):
    with pytest.raises(InferenceError, match="as an int >="):
        make(**{name: -1})


def test_table_before_run_error():
    with pytest.raises(InferenceError, match="call run"):
        make().table()


@dataclass(frozen=True)
class _Greedy(RandomWalkKernel):
    """Takes every proposal: its draws know nothing of the posterior."""

    def step(self, state, metric, gradient, control):
        def flat(position):
            value, grad = gradient(position)
            return torch.full_like(value, 0.0), grad

        return super().step(state, metric, flat, control)


class Greedy(RandomWalk):
    def transition(self):
        return _Greedy(self.target_accept_prob)


def test_a_sampler_that_ignores_the_data_is_found_out():
    kernel = Greedy(model, step_size=0.3)
    kernel.adapt_step_size = False
    sbc = make(kernel, simulations=320, samples=15, warmup_steps=20)
    with pytest.warns(BrancherWarning, match="raise thin"):
        sbc.run()
    assert float(sbc.table()["p_value"].min()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("case", small_models.MODELS)
def test_nuts_is_calibrated(case):
    # 640 simulations, chi-square over 16 bins, at most 6 quantities a model: p > 1e-4 for all alarms falsely
    # less than once in 1600 seeds.
    sbc = SBC(
        NUTS(case, target_accept_prob=0.9), ["y"], 640, 63, thin=6, warmup_steps=300, seed=1, progress=False
    )
    sbc.run()
    assert float(sbc.table()["p_value"].min()) > 1e-4
