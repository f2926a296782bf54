from __future__ import annotations

import pytest
import torch

import brancher.distributions as dist
from brancher import sample
from brancher.errors import InferenceError, InferenceTypeError, UnknownNameError
from brancher.infer import HMC, MCMC, EmpiricalMarginal, Importance


def model() -> None:
    x = sample("x", dist.Normal(0.0, 1.0))
    sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))
    sample("z", dist.Normal(x, 1.0))


@pytest.fixture
def run() -> Importance:
    return Importance(model, num_samples=200).run()


def test_marginal_weighs_the_draws(run: Importance) -> None:
    torch.testing.assert_close(EmpiricalMarginal(run, sites="x").mean, (run.weights * run.samples["x"]).sum())


def test_marginal_of_several_sites_stacks_them(run: Importance) -> None:
    both = EmpiricalMarginal(run, sites=["x", "z"])
    assert both.enumerate_support().shape == (200, 2)
    assert both.sample((7,)).shape == (7, 2)
    torch.testing.assert_close(both.mean[1], EmpiricalMarginal(run, sites="z").mean)


def test_marginal_gives_its_draws_and_weights_as_pyro_does(run: Importance) -> None:
    draws, log_weights = EmpiricalMarginal(run, sites="x")._get_samples_and_weights()
    assert torch.equal(draws, run.samples["x"])
    assert torch.equal(log_weights, run.log_weights)


def test_marginal_of_mcmc_is_unweighted() -> None:
    kernel = HMC(potential_fn=lambda at: 0.5 * at["x"].square().sum(), trajectory_length=1.5)
    mcmc = MCMC(kernel, 10, 10, {"x": torch.zeros(2)}, compile=False, progress=False)
    mcmc.run()
    marginal = EmpiricalMarginal(mcmc, sites="x")
    torch.testing.assert_close(marginal.mean, mcmc.get_samples()["x"].mean(0))


def test_sites_of_other_shapes_error(run: Importance) -> None:
    with pytest.raises(InferenceError, match="EmpiricalMarginal: expected sites of equal shape"):
        EmpiricalMarginal(run, sites=["x", "w"])


def test_unknown_site_error(run: Importance) -> None:
    with pytest.raises(UnknownNameError, match="'xx'"):
        EmpiricalMarginal(run, sites="xx")


def test_no_site_error(run: Importance) -> None:
    with pytest.raises(InferenceTypeError, match="expected sites as one or several of .*; name the site"):
        EmpiricalMarginal(run)


def test_foreign_run_error() -> None:
    with pytest.raises(InferenceTypeError, match="expected an Importance or MCMC that has run, got function"):
        EmpiricalMarginal(model, sites="x")  # type: ignore[arg-type]


def test_marginal_of_what_the_model_returned() -> None:
    def doubled() -> torch.Tensor:
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))
        return 2 * x

    run = Importance(doubled, num_samples=50).run()
    for sites in (None, "_RETURN"):
        torch.testing.assert_close(EmpiricalMarginal(run, sites).enumerate_support(), 2 * run.samples["x"])
    assert "returned" not in run.samples


def test_pyros_names_of_weights(run: Importance) -> None:
    torch.testing.assert_close(run.get_normalized_weights(log_scale=True).exp(), run.get_normalized_weights())
    assert run.get_log_normalizer() == run.log_evidence and run.get_ESS() == run.effective_sample_size
