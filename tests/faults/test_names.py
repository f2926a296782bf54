"""Faults in names and structure."""

from __future__ import annotations

import warnings

import pytest
import torch

from brancher import deterministic, factor, get_param_store, handlers, module, param, plate, sample
from brancher import distributions as dist
from brancher.errors import (
    BrancherWarning,
    GuideError,
    HandlerTypeError,
    InferenceError,
    ParamTypeError,
    PlateError,
    SiteError,
    SiteTypeError,
    UnknownParamError,
)
from brancher.infer import Predictive, TraceEnum_ELBO, log_likelihood

Z = {"z": ()}


def standard():
    return dist.Normal(0.0, 1.0)


# One site, one name


def test_two_sites_with_one_name_error(way):
    def model():
        sample("z", standard())
        sample("x", standard(), obs=torch.tensor(0.0))
        sample("x", standard(), obs=torch.tensor(1.0))

    way.refuses(model, SiteError, ValueError, "'x'", latents=Z, drawn=True)


def test_deterministic_twice_error(way):
    def model():
        z = sample("z", standard())
        deterministic("d", z)
        deterministic("d", 2 * z)

    way.refuses(model, SiteError, ValueError, "'d'", latents=Z, drawn=True)


def test_factor_twice_error(way):
    def model():
        z = sample("z", standard())
        factor("f", z)
        factor("f", z)

    way.refuses(model, SiteError, ValueError, "'f'", latents=Z, drawn=True)


def test_param_and_site_of_one_name_error(way):
    def model():
        z = sample("z", standard())
        loc = param("x", torch.tensor(1.0))
        sample("x", dist.Normal(z + loc, 1.0), obs=torch.tensor(0.0))

    way.refuses(model, SiteError, ValueError, "'x'", "param", latents=Z, drawn=True)


def test_plate_and_site_of_one_name_error(way):
    def model():
        sample("z", standard())
        with plate("x", 3):
            sample("x", standard(), obs=torch.zeros(3))

    way.refuses(model, SiteError, ValueError, "'x'", "plate", latents=Z, drawn=True)


# Names that are no names


@pytest.mark.parametrize("call", [sample, plate, deterministic, factor, param, module])
@pytest.mark.parametrize("name", [3, None, 2.5, b"x", ("x",)])
def test_name_that_is_no_string_error(refuses, call, name):
    with handlers.trace() as recorder:
        text = refuses(
            lambda: call(name, dist.Normal(0.0, 1.0)),
            SiteTypeError,
            TypeError,
            repr(name),
            type(name).__name__,
        )
    if len(recorder.trace) or not text:
        pytest.fail("something was recorded")


@pytest.mark.parametrize("call", [sample, plate, deterministic, factor, param, module])
def test_empty_name_error(refuses, call):
    refuses(lambda: call("", dist.Normal(0.0, 1.0)), SiteError, ValueError, "name", call.__name__)


def test_name_that_is_no_string_in_a_model_error(way):
    def model():
        sample("z", standard())
        sample(3, standard(), obs=torch.tensor(0.0))

    way.refuses(model, SiteTypeError, TypeError, "3", "int", latents=Z, drawn=True)


def test_tensor_in_place_of_a_distribution_error(way):
    def model():
        sample("z", standard())
        sample("x", torch.tensor(1.0))

    way.refuses(model, SiteTypeError, TypeError, "'x'", "Tensor", "deterministic", latents=Z, drawn=True)


def test_distribution_class_in_place_of_an_instance_error(way):
    def model():
        sample("z", standard())
        sample("x", dist.Normal, obs=torch.tensor(1.0))

    way.refuses(model, SiteTypeError, TypeError, "'x'", "class", "Normal(", latents=Z, drawn=True)


# Guide against model


@pytest.mark.ways(
    "svi", "svi compiled", "svi particles", "elbo", "mean field", "looped particles", "importance guide"
)
def test_misspelt_latent_in_the_guide_error(way):
    def guide():
        sample("zz", standard())

    def model():
        sample("z", standard())
        sample("x", standard(), obs=torch.tensor(0.0))

    way.refuses(
        model,
        GuideError,
        ValueError,
        "'zz'",
        "'z'",
        "did you mean 'z'",
        "is_auxiliary",
        guide=guide,
        drawn=True,
    )


@pytest.mark.ways(
    "svi",
    "svi compiled",
    "svi particles",
    "elbo",
    "mean field",
    "looped particles",
    "importance guide",
    "predictive guide",
)
def test_auxiliary_site_in_the_guide_is_accepted(way):
    def guide():
        sample("z", standard())
        sample("zz", standard(), infer={"is_auxiliary": True})

    def model():
        sample("z", standard())
        sample("x", standard(), obs=torch.tensor(0.0))

    way.runs(model, guide=guide)


@pytest.mark.ways("predictive guide")
def test_misspelt_latent_in_the_guide_of_predictive_error(way):
    def guide():
        sample("zz", standard())

    way.refuses(
        lambda: sample("z", standard()), GuideError, ValueError, "'zz'", "did you mean 'z'", guide=guide
    )


@pytest.mark.ways(
    "svi", "svi compiled", "svi particles", "elbo", "mean field", "looped particles", "importance guide"
)
def test_guide_without_a_latent_error(way):
    def model():
        sample("z", standard())
        sample("w", standard())

    way.refuses(model, GuideError, ValueError, "'w'", "add", latents=Z, drawn=True)


@pytest.mark.ways(
    "svi", "svi compiled", "elbo", "mean field", "looped particles", "svi particles", "importance guide"
)
def test_observed_site_in_the_guide_error(way):
    def model():
        sample("z", standard())
        sample("x", standard(), obs=torch.tensor(0.0))

    way.refuses(
        model, GuideError, ValueError, "'x'", "observed in the model", latents={"z": (), "x": ()}, drawn=True
    )


# Forgotten data


@pytest.mark.ways(
    "svi", "svi compiled", "svi particles", "elbo", "mean field", "looped particles", "importance guide"
)
def test_forgotten_data_error_names_the_site(way):
    def model(y=None):
        z = sample("z", standard())
        sample("y", dist.Normal(z, 1.0), obs=y)

    way.refuses(model, GuideError, ValueError, "'y'", "declared without obs", latents=Z, drawn=True)


@pytest.mark.ways("svi autoguide", "nuts", "importance prior")
def test_forgotten_data_warns(way):
    def model(y=None):
        z = sample("z", standard())
        sample("y", dist.Normal(z, 1.0), obs=y)

    way.warns(model, "'y'", "declared without obs")


@pytest.mark.ways("log likelihood")
def test_forgotten_data_of_a_likelihood_error(way):
    def model(y=None):
        z = sample("z", standard())
        sample("y", dist.Normal(z, 1.0), obs=y)

    way.refuses(model, InferenceError, ValueError, "'y'", "data", latents=Z)


# Handlers given names that match nothing


@pytest.mark.parametrize("handler", [handlers.do, handlers.condition, handlers.substitute])
def test_handler_of_an_unknown_name_warns(way, handler):
    def model():
        sample("alpha", standard())
        sample("x", standard(), obs=torch.tensor(0.0))

    wrapped = handler(model, data={"alhpa": torch.tensor(0.0)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way.runs(wrapped, latents={"alpha": ()})
    texts = {str(w.message) for w in caught if isinstance(w.message, BrancherWarning)}
    if not any("alhpa" in text and "did you mean 'alpha'" in text for text in texts):
        pytest.fail(f"no hint in {texts}")


def test_reparam_of_an_unknown_name_warns():
    class Strategy:
        def apply(self, message):
            return {"fn": message.fn, "value": message.value, "is_observed": message.is_observed}

    wrapped = handlers.reparam(lambda: sample("alpha", standard()), config={"alhpa": Strategy()})
    with pytest.warns(BrancherWarning, match="alhpa.*did you mean 'alpha'"):
        wrapped()


def test_condition_on_an_observed_site_warns(way):
    def model():
        sample("z", standard())
        sample("x", standard(), obs=torch.tensor(0.0))

    wrapped = handlers.condition(model, data={"x": torch.tensor(1.0)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way.runs(wrapped, latents=Z)
    texts = {str(w.message) for w in caught if isinstance(w.message, BrancherWarning)}
    if not any("'x'" in text and "replaced" in text for text in texts):
        pytest.fail(f"not told in {texts}")


# Plates


def test_plate_name_with_two_sizes_error(way):
    def model():
        sample("z", standard())
        with plate("p", 3):
            sample("x", standard(), obs=torch.zeros(3))
        with plate("p", 4):
            sample("y", standard(), obs=torch.zeros(4))

    way.refuses(model, PlateError, ValueError, "'p'", "3", "4", latents=Z, drawn=True)


@pytest.mark.ways(
    "svi",
    "svi compiled",
    "svi particles",
    "elbo",
    "mean field",
    "looped particles",
    "importance guide",
    "predictive guide",
)
def test_plate_of_two_sizes_in_model_and_guide_error(way):
    def model():
        with plate("p", 3):
            sample("z", standard())

    def guide():
        with plate("p", 4):
            sample("z", standard())

    way.refuses(model, GuideError, ValueError, "'p'", "3", "4", guide=guide, drawn=True)


# Parameters and modules


def test_module_registered_twice_warns():
    module("net", torch.nn.Linear(1, 1))
    with pytest.warns(BrancherWarning, match="'net'"):
        module("net", torch.nn.Linear(1, 1))


def test_two_modules_under_one_name_in_a_model_warns(way):
    first, second = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def model():
        module("net", first)
        z = sample("z", standard())
        module("net", second)
        sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way.runs(model, latents=Z)
    if not any("'net'" in str(w.message) for w in caught):
        pytest.fail("not told")


def test_param_never_initialised_error(way):
    get_param_store().declare("weights", torch.zeros(2))

    def model():
        sample("z", standard())
        param("wieghts")

    way.refuses(model, UnknownParamError, KeyError, "wieghts", "weights", latents=Z, drawn=True)


def test_module_that_is_no_module_error(way):
    def model():
        sample("z", standard())
        module("net", lambda x: x)

    way.refuses(model, ParamTypeError, TypeError, "'net'", "function", latents=Z, drawn=True)


# Posterior samples


@pytest.mark.parametrize("run", [Predictive, log_likelihood])
def test_samples_of_unequal_length_error(refuses, run):
    def model():
        sample("a", standard())
        sample("b", standard())
        sample("x", standard(), obs=torch.tensor(0.0))

    samples = {"a": torch.zeros(3), "b": torch.zeros(4)}
    refuses(lambda: run(model, samples), InferenceError, ValueError, "'a'", "'b'", "3", "4")


@pytest.mark.parametrize("run", [lambda m, s: Predictive(m, s)(), log_likelihood])
def test_samples_of_an_unknown_site_warns(run):
    def model():
        sample("alpha", standard())
        sample("x", standard(), obs=torch.tensor(0.0))

    samples = {"alpha": torch.zeros(3), "alhpa": torch.zeros(3)}
    with pytest.warns(BrancherWarning, match="alhpa.*did you mean 'alpha'"):
        run(model, samples)


@pytest.mark.parametrize("given", [{"z": 1.0}, 3, "z", [1]])
def test_replay_of_no_trace_error(refuses, given):
    words = ("replay", "Trace", type(given).__name__)
    refuses(lambda: handlers.replay(lambda: None, trace=given), HandlerTypeError, TypeError, *words)


def test_reparam_by_no_strategy_error(way):
    def model():
        sample("z", dist.Normal(0.0, 1.0))

    wrapped = handlers.reparam(model, config={"z": 3})
    if way.name != "log likelihood":
        way.refuses(wrapped, HandlerTypeError, TypeError, "'z'", "int", latents={"z": ()}, drawn=True)


def test_unknown_way_to_enumerate_error(refuses):
    def model():
        sample("k", dist.Bernoulli(0.5), infer={"enumerate": "par"})

    loss = TraceEnum_ELBO().loss
    refuses(lambda: loss(model, lambda: None), SiteError, ValueError, "'k'", "'par'", "'parallel'")
