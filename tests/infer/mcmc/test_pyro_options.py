"""Options that Pyro programs give to kernels and MCMC."""

from __future__ import annotations

import pytest

from brancher import distributions as dist
from brancher import sample
from brancher.errors import InferenceTypeError, UnsupportedError
from brancher.infer import HMC, MCMC, NUTS


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


@pytest.mark.parametrize(
    ("name", "value"), [("hook_fn", print), ("save_params", ["x"]), ("transforms", {"x": 1})]
)
def test_options_of_runs_that_ask_for_something_error(name, value):
    with pytest.raises(UnsupportedError, match=f"MCMC: expected {name} to be left out"):
        MCMC(NUTS(lambda: None), 5, **{name: value})


def test_names_of_numpyro_error():
    with pytest.raises(InferenceTypeError, match="got 'num_warmup'; here it is warmup_steps"):
        MCMC(NUTS(lambda: None), num_warmup=5, num_samples=5)
    with pytest.raises(InferenceTypeError, match="got 'dense_mass'; here it is full_mass"):
        NUTS(lambda: None, dense_mass=True)


def test_unknown_option_of_runs_error():
    with pytest.raises(InferenceTypeError, match="MCMC: expected known options, got 'hook'"):
        MCMC(NUTS(lambda: None), 5, hook=print)
