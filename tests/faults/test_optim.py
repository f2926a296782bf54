"""Faults in SVI's arguments and in optimizers."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from brancher import clear_param_store, get_param_store, optim, param, sample
from brancher import distributions as dist
from brancher.errors import (
    BrancherWarning,
    GuideError,
    InferenceError,
    InferenceTypeError,
    NonFiniteError,
    OptimError,
    OptimTypeError,
)
from brancher.infer import SVI, Importance, Predictive, Trace_ELBO, TraceMeanField_ELBO
from brancher.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal

Y = torch.tensor(3.0)


def model(*args):
    z = sample("z", dist.Normal(0.0, 1.0))
    sample("x", dist.Normal(z, 1.0), obs=Y)


def guide(*args):
    sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))


def step(optimizer):
    return lambda: SVI(model, guide, optimizer).step()


# Optimizers

OPTIONS = {
    "negative rate": ({"lr": -1}, "-1"),
    "nan rate": ({"lr": math.nan}, "nan"),
    "infinite rate": ({"lr": math.inf}, "inf"),
    "rate in words": ({"lr": "0.1"}, "0.1"),
    "unknown option": ({"learning_rate": 0.1}, "learning_rate"),
    "betas": ({"lr": 0.1, "betas": (1.5, 0.9)}, "1.5"),
    "one beta": ({"lr": 0.1, "betas": 0.9}, "betas"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_bad_option_of_an_optimizer_error(refuses, kind):
    options, word = OPTIONS[kind]
    refuses(lambda: optim.Adam(options), OptimError, ValueError, "'Adam'", word)


@pytest.mark.parametrize("kind", OPTIONS)
def test_bad_option_of_one_parameter_error(refuses, kind):
    options, word = OPTIONS[kind]
    refuses(step(optim.Adam(lambda name: options)), OptimError, ValueError, "'Adam'", "'loc'", word)


@pytest.mark.parametrize("given", [0.1, {"lr": 0.1}, [torch.optim.Adam], torch.nn.Linear(1, 1), int])
def test_optimizer_of_another_kind_error(refuses, given):
    refuses(lambda: SVI(model, guide, given), OptimTypeError, TypeError, "optimizer", "brancher.optim.Adam")


def test_unknown_optimizer_error(refuses):
    refuses(lambda: SVI(model, guide, "Adm"), OptimError, ValueError, "'Adm'", "did you mean 'Adam'")


def test_optimizer_of_other_tensors_error(refuses):
    foreign = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    refuses(step(foreign), OptimError, ValueError, "'loc'", "brancher.optim.Adam")


def test_factory_of_other_tensors_error(refuses):
    def factory(params):
        return torch.optim.Adam([torch.zeros(1, requires_grad=True)])

    refuses(step(factory), OptimError, ValueError, "'loc'", "'factory'")


@pytest.mark.parametrize("factory", [lambda params: None, lambda params: torch.optim.Adam])
def test_factory_that_makes_no_optimizer_error(refuses, factory):
    refuses(step(factory), OptimTypeError, TypeError, "optimizer")


def test_second_order_optimizer_error(refuses):
    refuses(step(torch.optim.LBFGS), OptimError, ValueError, "LBFGS", "Adam")


@pytest.mark.parametrize("options", [lambda name: None, lambda name: 0.1, lambda: {"lr": 0.1}])
def test_options_that_are_no_dict_error(refuses, options):
    refuses(step(optim.Adam(options)), OptimTypeError, TypeError, "'Adam'", "options", "'lr'")


@pytest.mark.parametrize("limits", [{"clip_norm": -1}, {"clip_norm": "a"}, {"clip": 1.0}])
def test_bad_limits_of_gradients_error(refuses, limits):
    refuses(lambda: optim.Adam({"lr": 0.1}, limits), OptimError, ValueError, "clip", repr(limits))


SCHEDULES = {
    "without gamma": {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}},
    "gamma in words": {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": "a"},
    "without optimizer": {"gamma": 0.1},
    "no dict": 0.1,
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_bad_schedule_error(refuses, kind):
    refuses(lambda: optim.ExponentialLR(SCHEDULES[kind]), OptimError, ValueError, "schedule")


def test_parameter_made_again_trains_with_the_same_optimizer():
    svi = SVI(model, guide, optim.Adam({"lr": 0.1}), compile=False)
    svi.step()
    clear_param_store()
    for _ in range(3):
        svi.step()
    if not get_param_store()["loc"].item() > 0.2:
        pytest.fail(f"loc stayed at {get_param_store()['loc']}")


# SVI


@pytest.mark.parametrize("count", [0, -1, 2.0, "3", True, None])
@pytest.mark.parametrize("kind", [Trace_ELBO, TraceMeanField_ELBO])
def test_bad_number_of_particles_error(refuses, kind, count):
    refuses(lambda: kind(num_particles=count), InferenceError, ValueError, "num_particles", repr(count))


def test_bad_choice_of_vectorizing_error(refuses):
    refuses(
        lambda: Trace_ELBO(num_particles=2, vectorize_particles="yes"),
        InferenceError,
        ValueError,
        "vectorize_particles",
        "'yes'",
    )


ARGUMENTS = {
    "loss class": ((model, guide, None, Trace_ELBO), "loss must be an instance"),
    "loss name": ((model, guide, None, "elbo"), "loss"),
    "model": (("model", guide), "model"),
    "no model": ((None, guide), "model"),
    "guide": ((model, 3), "guide"),
    "guide class": ((model, AutoNormal), "AutoNormal(model)"),
    "optimizer as guide": ((model, optim.Adam({"lr": 0.1})), "SVI(model, AutoNormal(model), optim)"),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_argument_of_another_kind_error(refuses, kind):
    arguments, word = ARGUMENTS[kind]
    refuses(lambda: SVI(*arguments), InferenceTypeError, TypeError, "SVI", word)


def test_store_of_another_kind_error(refuses):
    refuses(lambda: SVI(model, guide, store={}), InferenceTypeError, TypeError, "store", "dict")


RUNS = {
    "no steps": ((0,), {}, "num_steps"),
    "fractional steps": ((10.0,), {}, "num_steps"),
    "negative tolerance": ((3,), {"tol": -1}, "tol"),
    "tolerance in words": ((3,), {"tol": "small"}, "tol"),
    "callback": ((3,), {"callback": 3}, "callback"),
    "compile": ((3,), {"compile": "yes"}, "compile"),
    "empty loader": ((3, DataLoader(TensorDataset(torch.zeros(0, 1)))), {}, "DataLoader"),
}


@pytest.mark.parametrize("kind", RUNS)
def test_bad_argument_of_run_error(refuses, kind):
    args, kwargs, word = RUNS[kind]
    svi = SVI(model, guide)
    refuses(lambda: svi.run(*args, progress=False, **kwargs), InferenceError, ValueError, "SVI.run", word)


@pytest.mark.parametrize("compile", [True, False])
def test_step_in_inference_mode_error(refuses, compile):
    svi = SVI(model, guide, compile=compile)
    svi.step()
    with torch.inference_mode():
        refuses(svi.step, InferenceError, RuntimeError, "SVI.step", "torch.inference_mode()")


def test_step_without_gradients_trains():
    with torch.no_grad():
        SVI(model, guide, optim.Adam({"lr": 0.1}), compile=False).step()
    if not get_param_store()["loc"].item():
        pytest.fail("no step was taken")


def test_parameter_cut_off_from_the_loss_warns():
    def cut(*args):
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)).detach(), 1.0))

    with pytest.warns(BrancherWarning, match=r"\['loc'\].*detach"):
        SVI(model, cut, compile=False).step()


@pytest.mark.parametrize("make", [pickle.dumps, copy.deepcopy])
def test_pickled_svi_error(refuses, make):
    svi = SVI(model, guide)
    svi.step()
    refuses(lambda: make(svi), InferenceTypeError, TypeError, "svi.save")


@pytest.mark.parametrize("vanishes", [True, False])
def test_site_that_comes_or_goes_later_error(refuses, vanishes):
    state = {"changed": False}

    def changing():
        sample("z", dist.Normal(0.0, 1.0))
        if state["changed"] != vanishes:
            sample("w", dist.Normal(0.0, 1.0))

    svi = SVI(changing, AutoNormal(changing), optim.Adam({"lr": 0.1}), compile=False)
    svi.step()
    state["changed"] = True
    refuses(svi.step, GuideError, ValueError, "'w'", "guide")


def test_interrupted_run_keeps_its_losses():
    svi = SVI(model, guide, compile=False)

    def stop(number, loss):
        if number == 3:
            raise KeyboardInterrupt

    with pytest.warns(BrancherWarning, match="interrupt after 3"):
        history = svi.run(10, callback=stop, progress=False)
    if len(history) != 3 or svi.steps != 3:
        pytest.fail(f"{len(history)} losses, {svi.steps} steps")


def test_failed_step_is_not_counted(refuses):
    def failing(x):
        model()
        sample("e", dist.Normal(0.0, 1.0), obs=x)

    svi = SVI(failing, guide, compile=False)
    svi.step(torch.tensor(0.0))
    refuses(lambda: svi.step(torch.tensor(math.nan)), NonFiniteError, ValueError, "'e'", drawn=True)
    if svi.steps != 1 or len(svi.history) != 1:
        pytest.fail(f"{svi.steps} steps, history {svi.history}")


# Guides


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta, AutoDiagonalNormal])
@pytest.mark.parametrize("init", [3, "median", torch.tensor(0.0)])
def test_initial_values_by_no_function_error(refuses, kind, init):
    refuses(lambda: kind(model, init_loc_fn=init), GuideError, ValueError, "init_loc_fn", "init_to_value")


def test_initial_value_of_an_unknown_site_warns():
    from brancher.infer import init_to_value

    guide = AutoNormal(model, init_loc_fn=init_to_value(values={"zz": torch.tensor(1.0)}))
    with pytest.warns(BrancherWarning, match="'zz'; did you mean 'z'"):
        guide.setup()


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta, AutoDiagonalNormal])
def test_median_stays_what_it_was(kind):
    guide = kind(model)
    svi = SVI(model, guide, optim.Adam({"lr": 0.1}), compile=False)
    svi.step()
    median = guide.median()["z"]
    before = median.item()
    svi.step()
    if median.item() != before:
        pytest.fail(f"the median went from {before} to {median.item()}")


# Predictive and Importance


@pytest.mark.parametrize("kind", [Predictive, Importance])
def test_bad_choice_of_running_draws_error(refuses, kind):
    run = kind(model, num_samples=3, parallel="yes")
    refuses(run if kind is Predictive else run.run, InferenceError, ValueError, "parallel", "'yes'")


@pytest.mark.parametrize("count", [0, -3, 2.0, "3", True])
@pytest.mark.parametrize("kind", [Predictive, Importance])
def test_bad_number_of_draws_error(refuses, kind, count):
    refuses(lambda: kind(model, num_samples=count), InferenceError, ValueError, "num_samples", repr(count))


def test_unknown_site_of_draws_error(refuses):
    draws = Predictive(model, num_samples=3)()
    refuses(lambda: draws["zz"], KeyError, LookupError, "'zz'", "did you mean 'z'")


def test_shared_optimizer_of_two_models():
    shared = optim.Adam({"lr": 0.1})

    def other(*args):
        sample("z", dist.Normal(param("other", torch.tensor(0.0)), 1.0))

    first, second = SVI(model, guide, shared, compile=False), SVI(model, other, shared, compile=False)
    for _ in range(2):
        first.step()
        second.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = shared.state_dict()["state"]
    if sorted(state) != ["loc", "other"]:
        pytest.fail(f"state of {sorted(state)}")
