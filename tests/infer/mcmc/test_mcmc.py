"""``MCMC`` as users see it; runs are short and eager, so what is tested is the frame around the kernels."""

from __future__ import annotations

import math
import multiprocessing

import pytest
import torch

import brancher.distributions as dist
from brancher import deterministic, handlers, plate, sample
from brancher.errors import BrancherWarning, FileFormatError, InferenceError
from brancher.infer.initialization import init_to_median, init_to_sample, init_to_value
from brancher.infer.mcmc import HMC, MCMC, NUTS, ChEES, RandomWalk

Y = torch.tensor([1.0, 2.0, 4.0])


def model(y):
    mu = sample("mu", dist.Normal(0.0, 3.0))
    scale = sample("scale", dist.HalfNormal(2.0))
    deterministic("twice", 2 * mu)
    with plate("row", 3, coords=["a", "b", "c"]):
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(mu + scale * z, 0.5), obs=y)


def make(kernel=None, draws=12, warmup=12, **options):
    options = {"compile": False, "progress": False, "seed": 0, **options}
    return MCMC(kernel or HMC(model, trajectory_length=0.3), draws, warmup, **options)


pytestmark = pytest.mark.filterwarnings("ignore:MCMC")


@pytest.fixture(scope="module")
def ran():
    mcmc = make(num_chains=2)
    mcmc.run(Y)
    return mcmc


@pytest.mark.parametrize("kernel", [NUTS, HMC, ChEES, RandomWalk])
def test_every_kernel_runs(kernel):
    mcmc = make(kernel(model), draws=6, warmup=4, num_chains=2)
    mcmc.run(Y)
    assert mcmc.get_samples(group_by_chain=True)["z"].shape == (2, 6, 3)


@pytest.mark.parametrize("options", [{"full_mass": True}, {"mass_from_gradients": True}])
def test_mass_matrices_run(options):
    mcmc = make(NUTS(model, max_tree_depth=3, **options), draws=4, warmup=30)
    mcmc.run(Y)
    assert bool(torch.isfinite(mcmc.get_samples()["mu"]).all())


def test_samples_are_constrained_and_hold_deterministic_sites(ran):
    samples = ran.get_samples()
    assert bool((samples["scale"] > 0).all()) and torch.allclose(samples["twice"], 2 * samples["mu"])


def test_get_samples_at_random(ran):
    assert ran.get_samples(7)["z"].shape == (7, 3)


def test_summary_is_labelled_by_coords(ran):
    table = ran.summary()
    assert "z[b]" in table.index and {"mean", "sd", "r_hat", "ess_bulk", "ess_tail", "mcse_mean"} <= set(
        table.columns
    )


def test_to_frame_has_a_row_a_draw(ran):
    assert ran.to_frame().shape == (24, 6)


def test_diagnostics_name_sites_and_chains(ran):
    found = ran.diagnostics()
    assert {"n_eff", "r_hat"} == set(found["mu"]) and set(found["divergences"]) == {"chain 0", "chain 1"}


def test_stats_bear_arviz_names():
    mcmc = make(NUTS(model, max_tree_depth=3), draws=4, warmup=4)
    mcmc.run(Y)
    names = "acceptance_rate n_steps tree_depth diverging energy lp step_size reached_max_treedepth"
    assert set(mcmc.stats) == set(names.split())


def test_str_shows_the_table(ran):
    assert "z[a]" in str(ran) and "2 chains x 12 draws" in str(ran)


def test_same_seed_same_chain(ran):
    again = make(num_chains=2)
    again.run(Y)
    assert torch.equal(again.get_samples()["z"], ran.get_samples()["z"])


def test_manual_seed_governs_a_run_without_a_seed():
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        mcmc = make(draws=3, warmup=0, seed=None)
        mcmc.run(Y)
        draws.append(mcmc.get_samples()["mu"])
    assert torch.equal(*draws)


def test_sequential_chains_are_the_vectorized_ones(ran):
    alone = make(num_chains=2, chain_method="sequential", draws=3, warmup=3)
    together = make(num_chains=2, draws=3, warmup=3)
    alone.run(Y)
    together.run(Y)
    # The same numbers, rounded apart: sums over one chain and over two.
    assert torch.allclose(alone.get_samples()["mu"], together.get_samples()["mu"], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_parallel_chains_are_the_sequential_ones():
    runs = [
        make(num_chains=2, chain_method=method, draws=3, warmup=3) for method in ("sequential", "parallel")
    ]
    for run in runs:
        run.run(Y)
    first, second = (run.get_samples(group_by_chain=True)["z"] for run in runs)
    assert torch.equal(first, second)


def test_bar_shows_phase_step_size_and_divergences(capsys):
    make(NUTS(model, max_tree_depth=3), progress=True).run(Y)
    shown = capsys.readouterr().err
    assert "24/24" in shown and "step size" in shown and "diverg" in shown


def test_run_again_goes_on_bit_for_bit(ran):
    pieces = make(num_chains=2, draws=6)
    pieces.run(Y)
    pieces.run(Y)
    assert torch.equal(
        pieces.get_samples(group_by_chain=True)["z"], ran.get_samples(group_by_chain=True)["z"]
    )


def test_save_and_load_go_on_bit_for_bit(ran, tmp_path):
    first = make(num_chains=2, draws=6)
    first.run(Y)
    first.save(tmp_path / "run")
    second = make(num_chains=2, draws=6)
    second.load(tmp_path / "run", Y)
    assert torch.equal(second.get_samples()["z"], first.get_samples()["z"])
    second.run(Y)
    assert torch.equal(
        second.get_samples(group_by_chain=True)["z"], ran.get_samples(group_by_chain=True)["z"]
    )


def test_chees_goes_on_bit_for_bit_after_save_and_load(tmp_path):
    runs = [make(ChEES(model), draws=draws, num_chains=4) for draws in (6, 3, 3)]
    runs[0].run(Y)
    runs[1].run(Y)
    runs[1].save(tmp_path / "run")
    runs[2].load(tmp_path / "run", Y)
    runs[2].run(Y)
    whole, pieces = (run.get_samples(group_by_chain=True)["z"] for run in (runs[0], runs[2]))
    assert torch.equal(whole, pieces)


@pytest.mark.parametrize("stop", [1, 8, 20])
def test_interrupt_keeps_draws_and_run_finishes_them(ran, stop, monkeypatch):
    from brancher.infer.mcmc import sampler

    calls = []

    def counting(original):
        def call(self, orders):
            calls.append(0)
            if len(calls) == stop:
                raise KeyboardInterrupt
            original(self, orders)

        return call

    monkeypatch.setattr(sampler.Sampler, "_call", counting(sampler.Sampler._call))
    mcmc = make(num_chains=2)
    monkeypatch.setattr(sampler, "_SECONDS_A_CALL", 1e-9)  # one iteration a call
    with pytest.warns(BrancherWarning, match="interrupted"):
        mcmc.run(Y)
    mcmc.run(Y)
    assert torch.equal(mcmc.get_samples()["z"], ran.get_samples()["z"])


def test_other_data_start_anew(ran):
    mcmc = make(num_chains=2)
    mcmc.run(Y + 1)
    mcmc.run(Y)
    assert torch.equal(mcmc.get_samples()["z"], ran.get_samples()["z"])


def test_no_warmup_works():
    mcmc = make(draws=3, warmup=0)
    mcmc.run(Y)
    assert mcmc.get_samples()["mu"].shape == (3,)


@pytest.mark.parametrize("strategy", [init_to_median, init_to_sample, init_to_value(values={"mu": 1.0})])
def test_init_strategies_work(strategy):
    mcmc = make(HMC(model, trajectory_length=0.5, init_strategy=strategy), draws=2, warmup=2)
    mcmc.run(Y)
    assert bool(torch.isfinite(mcmc.get_samples()["mu"]).all())


def test_initial_params_are_where_chains_start():
    start = {"mu": torch.tensor(0.3), "scale": torch.tensor(0.1), "z": torch.zeros(3)}
    mcmc = make(HMC(model, step_size=1e-6, num_steps=1, adapt_step_size=False), 1, 0, initial_params=start)
    mcmc.run(Y)
    assert float(mcmc.get_samples()["mu"]) == pytest.approx(0.3, abs=1e-4)


def test_potential_fn_needs_no_model():
    kernel = NUTS(
        potential_fn=lambda p: 0.5 * ((p["x"] - 3) ** 2).sum() + 0.5 * p["s"] ** 2, max_tree_depth=3
    )
    mcmc = make(kernel, 5, 5, initial_params={"x": torch.zeros(2), "s": torch.tensor(0.0)}, num_chains=2)
    mcmc.run()
    assert mcmc.get_samples()["x"].shape == (10, 2)


def test_run_leaves_no_handler_and_no_random_state_behind():
    before = torch.get_rng_state()
    make(draws=2, warmup=2).run(Y)
    assert handlers.stack.current() == () and torch.equal(before, torch.get_rng_state())


def test_divergences_are_told_once():
    def funnel():
        width = sample("width", dist.Normal(0.0, 3.0))
        sample("x", dist.Normal(torch.zeros(5), (width / 2).exp()).to_event(1))

    mcmc = make(HMC(funnel, step_size=3.0, num_steps=20, adapt_step_size=False), 10, 0, num_chains=2)
    with pytest.warns(BrancherWarning, match="divergent draws .raise target_accept_prob") as caught:
        mcmc.run()
    assert len(caught) == 1


def test_infinite_density_names_the_site_error():
    def bad():
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("culprit", dist.Uniform(x + 100, x + 101, validate_args=False), obs=torch.tensor(0.0))

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="site 'culprit' has log_prob -inf"):
        make(HMC(bad), 2, 2, seed=None).run()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("options", [{"draws": 0}, {"warmup": -1}, {"num_chains": 0}, {"draws": True}])
def test_bad_number_error(options):
    with pytest.raises(ValueError, match="expected (num_samples|warmup_steps|num_chains) as an int"):
        make(**options)


def test_chain_method_error():
    with pytest.raises(InferenceError, match="chain_method"):
        make(chain_method="threads")


def test_model_instead_of_kernel_error():
    with pytest.raises(TypeError, match=r"NUTS\(model\)"):
        MCMC(model, 10)


def test_samples_before_run_error():
    with pytest.raises(InferenceError, match=r"call run"):
        make().get_samples()


def test_unknown_initial_name_error():
    with pytest.raises(KeyError, match="'zz'"):
        make(initial_params={"zz": torch.tensor(0.0)}).run(Y)


def test_initial_params_of_infinite_density_error():
    bad = {"mu": torch.tensor(math.nan), "scale": torch.tensor(0.1), "z": torch.zeros(3)}
    with pytest.raises(ValueError, match="at initial_params"):
        make(initial_params=bad).run(Y)


def test_load_of_another_kind_of_file_error(tmp_path):
    (tmp_path / "run").write_bytes(b"nonsense")
    with pytest.raises(FileFormatError):
        make().load(tmp_path / "run", Y)


def test_load_with_other_chains_error(ran, tmp_path):
    ran.save(tmp_path / "run")
    with pytest.raises(InferenceError, match="run of 1 chains"):
        make().load(tmp_path / "run", Y)


@pytest.mark.parametrize("kernel", [NUTS, HMC, ChEES, RandomWalk])
def test_kernel_without_model_error(kernel):
    with pytest.raises(InferenceError, match="got neither"):
        kernel()


def test_potential_fn_without_initial_params_error():
    with pytest.raises(InferenceError, match="initial_params with potential_fn"):
        make(NUTS(potential_fn=lambda p: p["x"]))


@pytest.mark.slow
def test_an_exception_in_a_parallel_chain_reaches_the_caller():
    mcmc = make(HMC(_fails_elsewhere, trajectory_length=0.5), 2, 0, num_chains=2, chain_method="parallel")
    with pytest.raises(InferenceError, match="boom"):
        mcmc.run()


def _fails_elsewhere():
    if multiprocessing.parent_process() is not None:
        raise InferenceError("boom")
    sample("x", dist.Normal(0.0, 1.0))
