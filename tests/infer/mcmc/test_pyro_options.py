"""Options that Pyro programs give to kernels and MCMC."""

from __future__ import annotations

import pytest
import torch

from brancher import distributions as dist
from brancher import sample
from brancher.errors import BrancherWarning, InferenceTypeError, UnknownNameError, UnsupportedError
from brancher.infer import HMC, MCMC, NUTS, ChEES, initialize_model


def model():
    sample("x", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("kernel", [HMC, NUTS])
def test_kernel_takes_options_that_need_no_answer(kernel):
    kernel(model, jit_compile=True, ignore_jit_warnings=True, max_plate_nesting=1, transforms=None)


@pytest.mark.parametrize("kernel", [HMC, NUTS])
def test_kernel_unknown_option_error(kernel):
    with pytest.raises(InferenceTypeError, match="'jit_compil'; did you mean 'jit_compile'"):
        kernel(model, jit_compil=True)


def test_kernel_option_without_an_answer_error():
    with pytest.raises(UnsupportedError, match="use_multinomial_sampling"):
        NUTS(model, use_multinomial_sampling=False)


def test_disable_progbar_is_the_contrary_of_progress():
    assert not MCMC(NUTS(model), num_samples=1, disable_progbar=True).progress
    assert MCMC(NUTS(model), num_samples=1).progress


def test_options_of_runs_are_taken():
    MCMC(NUTS(lambda: None), 5, mp_context="spawn", disable_validation=True, hook_fn=None, transforms=None)


def test_options_of_runs_that_ask_for_something_error():
    with pytest.raises(UnsupportedError, match="MCMC: expected save_params to be left out"):
        MCMC(NUTS(lambda: None), 5, save_params=["x"])
    with pytest.raises(UnsupportedError, match="MCMC: expected transforms with a potential_fn, got a model"):
        MCMC(NUTS(lambda: None), 5, transforms={"x": dist.transforms.ExpTransform().inv})


def positive():
    sample("x", dist.Gamma(2.0, 1.0))


@pytest.mark.parametrize("owner", ["kernel", "run"])
def test_transforms_show_draws_in_their_own_space(owner):
    start, potential_fn, transforms, _ = initialize_model(positive)
    kernel = NUTS(potential_fn=potential_fn, **({"transforms": transforms} if owner == "kernel" else {}))
    options = {"transforms": transforms} if owner == "run" else {}
    mcmc = MCMC(kernel, 30, 20, start, seed=0, progress=False, **options)
    mcmc.run()
    assert bool((mcmc.get_samples()["x"] > 0).all())
    plain = MCMC(NUTS(potential_fn=potential_fn), 30, 20, start, seed=0, progress=False)
    plain.run()
    torch.testing.assert_close(plain.get_samples()["x"].exp(), mcmc.get_samples()["x"])


def test_transforms_of_an_unknown_name_error():
    start, potential_fn, transforms, _ = initialize_model(positive)
    mcmc = MCMC(
        NUTS(potential_fn=potential_fn), 5, 5, start, transforms={"y": transforms["x"]}, progress=False
    )
    with pytest.raises(UnknownNameError, match=r"transforms 'y': expected one of \['x'\]"):
        mcmc.run()


@pytest.mark.filterwarnings("ignore:MCMC. expected a run without trouble")
@pytest.mark.parametrize("kernel", [HMC(positive, num_steps=3), NUTS(positive), ChEES(positive)])
@pytest.mark.parametrize("chains", [1, 3])
def test_hook_is_told_of_every_draw_in_order(kernel, chains):
    calls = []
    mcmc = MCMC(
        kernel,
        6,
        5,
        num_chains=chains,
        seed=0,
        progress=False,
        hook_fn=lambda kernel, samples, stage, i: calls.append((kernel, samples["x"], stage, i)),
    )
    mcmc.run()
    mcmc.run()
    assert [call[2:] for call in calls] == [("warmup", i) for i in range(5)] + [
        ("sample", i) for i in range(12)
    ]
    assert all(call[0] is kernel for call in calls)
    told = torch.stack([call[1] for call in calls[5:]], dim=-1).reshape(chains, 12)
    torch.testing.assert_close(told.exp(), mcmc.get_samples(group_by_chain=True)["x"])


def test_hook_that_fails_leaves_a_run_that_can_go_on():
    def fail(kernel, samples, stage, i):
        if (stage, i) == ("sample", 3):
            raise RuntimeError("boom")

    mcmc = MCMC(NUTS(positive), 10, 5, seed=0, progress=False, hook_fn=fail)
    with pytest.raises(RuntimeError, match="boom"):
        mcmc.run()
    mcmc.hook_fn = None
    mcmc.run()
    whole = MCMC(NUTS(positive), 10, 5, seed=0, progress=False)
    whole.run()
    assert torch.equal(mcmc.get_samples()["x"][:10], whole.get_samples()["x"])


def test_hook_errors():
    with pytest.raises(InferenceTypeError, match="expected hook_fn as a function of"):
        MCMC(NUTS(positive), 5, hook_fn=3)
    with pytest.raises(UnsupportedError, match="got chain_method='parallel'"):
        MCMC(NUTS(positive), 5, hook_fn=print, chain_method="parallel")


def test_names_of_numpyro_error():
    with pytest.raises(InferenceTypeError, match="got 'num_warmup'; here it is warmup_steps"):
        MCMC(NUTS(lambda: None), num_warmup=5, num_samples=5)
    with pytest.raises(InferenceTypeError, match="got 'dense_mass'; here it is full_mass"):
        NUTS(lambda: None, dense_mass=True)


def test_unknown_option_of_runs_error():
    with pytest.raises(InferenceTypeError, match="MCMC: expected known options, got 'hook'"):
        MCMC(NUTS(lambda: None), 5, hook=print)


def test_options_of_initialize_model():
    initialize_model(
        positive, jit_compile=False, skip_jit_warnings=True, max_plate_nesting=1, transforms=None
    )
    with pytest.raises(InferenceTypeError, match="initialize_model: expected known options, got 'jit'"):
        initialize_model(positive, jit=True)


def test_arguments_beside_a_potential_warn():
    start, potential_fn, transforms, _ = initialize_model(positive)
    mcmc = MCMC(NUTS(potential_fn=potential_fn), 3, 5, start, transforms=transforms, progress=False, seed=0)
    with pytest.warns(BrancherWarning, match="expected no arguments with potential_fn, got some"):
        mcmc.run(torch.tensor(1.0))
    assert mcmc.get_samples()["x"].shape == (3,)
