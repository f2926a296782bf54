"""Faults in values and parameters."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from brancher import (
    ParamStore,
    deterministic,
    factor,
    get_param_store,
    handlers,
    module,
    optim,
    param,
    plate,
    sample,
)
from brancher import distributions as dist
from brancher.distributions import constraints
from brancher.errors import (
    BrancherWarning,
    DistributionError,
    DistributionTypeError,
    GuideError,
    InferenceError,
    InferenceTypeError,
    NonFiniteError,
    ParamError,
    ParamTypeError,
    SiteError,
    SiteTypeError,
)
from brancher.infer import SVI, Importance, Predictive, Trace_ELBO, TraceMeanField_ELBO, log_likelihood
from brancher.infer.autoguide import AutoNormal

Z = {"z": ()}


def standard():
    return dist.Normal(0.0, 1.0)


def rows(y):
    z = sample("z", standard())
    with plate("p", 3):
        sample("x", dist.Normal(z, 1.0), obs=y)


# Observations

NAN = torch.tensor([0.0, math.nan, math.nan])


@pytest.mark.ways(but=["predictive guide"])
def test_nan_in_the_observations_error(way):
    way.refuses(
        rows, SiteError, ValueError, "'x'", "2 NaN", "(1,)", "mask", args=(NAN,), latents=Z, drawn=True
    )


@pytest.mark.ways("training")
def test_nan_in_the_observations_of_a_later_step_error(way):
    way.refuses(
        rows,
        NonFiniteError,
        ValueError,
        "'x'",
        "2",
        args=(NAN,),
        good=(torch.zeros(3),),
        latents=Z,
        drawn=True,
    )


@pytest.mark.ways("training")
def test_infinite_observations_of_a_later_step_error(way):
    bad = torch.tensor([0.0, math.inf, 0.0])
    way.refuses(
        rows,
        NonFiniteError,
        ValueError,
        "'x'",
        "1",
        args=(bad,),
        good=(torch.zeros(3),),
        latents=Z,
        drawn=True,
    )


SUPPORTS = {
    "gamma": (lambda z: dist.Gamma(z.exp(), 1.0), torch.tensor(-1.0), "-1"),
    "categorical": (lambda z: dist.Categorical(logits=z * torch.ones(3)), torch.tensor(5), "5"),
    "poisson": (lambda z: dist.Poisson(z.exp()), torch.tensor(1.5), "1.5"),
    "bernoulli": (lambda z: dist.Bernoulli(logits=z), torch.tensor(2.0), "2"),
    "simplex": (lambda z: dist.Dirichlet(z.exp() * torch.ones(2)), torch.tensor([0.3, 0.3]), "0.3"),
    "binomial": (lambda z: dist.Binomial(3, logits=z), torch.tensor(4.0), "4"),
}


@pytest.mark.parametrize("kind", SUPPORTS)
@pytest.mark.ways(but=["unscored"])
def test_observation_outside_the_support_error(way, kind):
    law, value, shown = SUPPORTS[kind]

    def model(y):
        sample("x", law(sample("z", standard())), obs=y)

    way.refuses(model, SiteError, ValueError, "'x'", shown, args=(value,), latents=Z, drawn=True)


@pytest.mark.ways("training", "elbo", "mean field", "looped particles")
def test_category_out_of_range_in_a_later_step_error(way):
    def model(y):
        z = sample("z", standard())
        with plate("p", 2):
            sample("x", dist.Categorical(logits=z[..., None] * torch.ones(3)), obs=y)

    good, bad = torch.tensor([0, 2]), torch.tensor([0, 5])
    way.refuses(model, SiteError, ValueError, "'x'", "5", args=(bad,), good=(good,), latents=Z, drawn=True)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3),
        np.zeros(3, np.float32),
        pd.Series([0.0, 0.0, 0.0]),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(3, dtype=torch.bool),
    ],
    ids=["float64 array", "float32 array", "series", "int tensor", "bool tensor"],
)
def test_observation_of_another_kind_is_converted(way, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrancherWarning)
        way.runs(rows, args=(value,), latents=Z)


@pytest.mark.parametrize(
    "value",
    [
        [0.0, 0.0, 0.0],
        ("a", "b", "c"),
        np.array(["a", "b", "c"]),
        "abc",
        {"a": 1},
        object(),
        pd.Series(["a", "b", "c"]),
    ],
    ids=["list", "tuple", "text array", "text", "dict", "object", "text series"],
)
def test_observation_of_no_numbers_error(way, value):
    way.refuses(rows, SiteTypeError, TypeError, "'x'", "tensor", args=(value,), latents=Z, drawn=True)


def test_complex_observation_error(way):
    way.refuses(
        rows,
        SiteTypeError,
        TypeError,
        "'x'",
        "complex",
        args=(torch.zeros(3, dtype=torch.complex64),),
        latents=Z,
        drawn=True,
    )


def test_observation_on_another_device_error(way):
    way.refuses(
        rows,
        SiteError,
        ValueError,
        "'x'",
        "device",
        "meta",
        args=(torch.zeros(3, device="meta"),),
        latents=Z,
        drawn=True,
    )


@pytest.mark.parametrize("infer", [3, "enumerate", ["a"]])
def test_infer_of_another_type_error(refuses, infer):
    refuses(
        lambda: sample("x", standard(), infer=infer),
        SiteTypeError,
        TypeError,
        "'x'",
        "infer",
        type(infer).__name__,
    )


def test_conditioning_on_nan_error(way):
    def model():
        z = sample("z", standard())
        sample("x", dist.Normal(z, 1.0))

    wrapped = handlers.condition(model, data={"x": torch.tensor(math.nan)})
    way.refuses(wrapped, SiteError, ValueError, "'x'", "NaN", latents=Z, drawn=True)


def test_conditioning_on_another_shape_error(way):
    def model():
        z = sample("z", standard())
        with plate("p", 3):
            sample("x", dist.Normal(z, 1.0))

    wrapped = handlers.condition(model, data={"x": torch.zeros(4)})
    way.refuses(wrapped, SiteError, ValueError, "'x'", "[3]", "[4]", latents=Z, drawn=True)


# Distributions


def test_negative_scale_names_the_site_or_the_parameter(way):
    def model():
        z = sample("z", standard())
        sample("x", dist.Normal(z, torch.tensor([1.0, -2.0, -3.0])).to_event(1), obs=torch.zeros(3))

    way.refuses(
        model, DistributionError, ValueError, "Normal", "scale", "(3,)", "2", "-2", latents=Z, drawn=True
    )


BAD = {
    "covariance": (
        lambda: dist.MultivariateNormal(torch.zeros(2), covariance_matrix=-torch.eye(2)),
        "covariance_matrix",
    ),
    "precision": (
        lambda: dist.MultivariateNormal(torch.zeros(2), precision_matrix=-torch.eye(2)),
        "precision_matrix",
    ),
    "scale_tril": (lambda: dist.MultivariateNormal(torch.zeros(2), scale_tril=-torch.eye(2)), "scale_tril"),
    "probs above": (lambda: dist.Bernoulli(torch.tensor([0.5, 1.2])), "probs"),
    "probs below": (lambda: dist.Categorical(torch.tensor([0.5, -0.2])), "probs"),
    "nan loc": (lambda: dist.Normal(torch.tensor(math.nan), 1.0), "loc"),
    "nan scale": (lambda: dist.Normal(0.0, torch.tensor(math.nan)), "scale"),
    "zero rate": (lambda: dist.Exponential(0.0), "rate"),
    "empty interval": (lambda: dist.Uniform(1.0, 0.0), "Uniform"),
    "negative count": (lambda: dist.Binomial(-1, 0.5), "total_count"),
    "both": (lambda: dist.Bernoulli(probs=0.5, logits=0.0), "probs"),
    "shapes": (lambda: dist.Normal(torch.zeros(2), torch.ones(3)), "(2,)"),
    "zero weights": (lambda: dist.Categorical(torch.zeros(2, 3)), "2 rows of zeros"),
    "expand": (lambda: standard().expand((2,)).expand((3,)), "(3,)"),
    "to_event of a bool": (lambda: dist.Normal(torch.zeros(2), 1.0).to_event(True), "True"),
    "transform": (lambda: dist.TransformedDistribution(standard(), torch.exp), "Transform"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_argument_of_a_distribution_error(refuses, kind):
    make, word = BAD[kind]
    refuses(make, DistributionError, ValueError, word)


@pytest.mark.parametrize("value", ["a", None, [1.0], object(), torch.tensor(1j)])
def test_distribution_of_no_numbers_error(refuses, value):
    refuses(lambda: dist.Normal(value, 1.0), DistributionTypeError, TypeError, "Normal", "loc")


def test_error_of_a_distribution_in_a_site_says_which():
    def model():
        sample("z", standard())
        with plate("p", 3):
            sample("first", standard())
            dist.Normal(0.0, -1.0)

    with pytest.raises(DistributionError) as caught:
        handlers.trace(model).get_trace()
    notes = "".join(getattr(caught.value, "__notes__", ()))
    if hasattr(caught.value, "add_note") and ("'first'" not in notes or "'p'" not in notes):
        pytest.fail(f"notes: {notes}")


@pytest.mark.ways("guided")
def test_delta_guide_of_a_discrete_site_error(way):
    def model():
        sample("z", dist.Poisson(3.0))

    def guide():
        sample("z", dist.Delta(param("at", torch.tensor(1.5))))

    way.refuses(model, SiteError, ValueError, "'z'", "1.5", guide=guide, drawn=True)


@pytest.mark.ways("guided")
def test_delta_guide_with_a_wide_log_density_error(way):
    def model():
        sample("z", standard())

    def guide():
        sample("z", dist.Delta(param("at", torch.tensor(1.5)), log_density=torch.zeros(2)))

    way.refuses(model, DistributionError, ValueError, "log_density", guide=guide, drawn=True)


@pytest.mark.ways("guided")
def test_guide_outside_the_support_error(way):
    def model():
        sample("z", dist.HalfNormal(1.0))

    def guide():
        sample("z", dist.Normal(-50.0, 1.0))

    way.refuses(model, SiteError, ValueError, "'z'", "support", guide=guide, drawn=True)


@pytest.mark.ways("svi autoguide", "normal guide", "delta guide")
def test_discrete_latent_of_an_autoguide_error(way):
    def model():
        sample("k", dist.Poisson(3.0))

    way.refuses(model, GuideError, ValueError, "'k'", "Poisson", latents={"k": ()})


@pytest.mark.ways("nuts")
def test_discrete_latent_of_nuts_error(way):
    def model():
        sample("k", dist.Poisson(3.0))

    way.refuses(model, InferenceError, NotImplementedError, "'k'", "Poisson")


# Parameters


def test_param_outside_its_constraint_error(way):
    def model():
        sample("z", standard())
        param("s", torch.tensor([1.0, -1.0]), constraint=constraints.positive)

    way.refuses(model, ParamError, ValueError, "'s'", "GreaterThan", "-1", "(1,)", latents=Z, drawn=True)


def test_param_that_is_nan_error(way):
    def model():
        sample("z", standard())
        param("s", torch.tensor(math.nan))

    way.refuses(model, ParamError, ValueError, "'s'", "nan", latents=Z, drawn=True)


@pytest.mark.parametrize("value", [torch.tensor(1), torch.tensor([True]), np.array([1, 2]), torch.tensor(1j)])
def test_param_of_another_dtype_error(refuses, value):
    refuses(lambda: param("s", value), ParamTypeError, TypeError, "'s'", "float")


@pytest.mark.parametrize("value", ["a", {}, object(), lambda: "a", lambda: None, standard()])
def test_param_of_no_numbers_error(refuses, value):
    refuses(lambda: param("s", value), ParamTypeError, TypeError, "'s'")


@pytest.mark.parametrize("constraint", [3, "positive", constraints.Constraint, None])
def test_constraint_that_is_none_error(refuses, constraint):
    refuses(
        lambda: param("s", torch.tensor(1.0), constraint=constraint),
        ParamTypeError,
        TypeError,
        "'s'",
        "constraint",
    )


def test_param_declared_with_another_constraint_error(way):
    get_param_store().declare("s", torch.tensor(0.5), constraints.positive)

    def model():
        sample("z", standard())
        param("s", torch.tensor(0.5), constraint=constraints.unit_interval)

    way.refuses(model, ParamError, ValueError, "'s'", "GreaterThan", "Interval", latents=Z, drawn=True)


def test_param_declared_with_another_shape_error(way):
    get_param_store().declare("s", torch.zeros(2))

    def model():
        sample("z", standard())
        param("s", torch.zeros(3))

    way.refuses(model, ParamError, ValueError, "'s'", "(2,)", "(3,)", latents=Z, drawn=True)


def test_param_and_module_of_one_name_error(way):
    def model():
        sample("z", standard())
        param("net.weight", torch.zeros(1, 1))
        module("net", torch.nn.Linear(1, 1))

    way.refuses(model, ParamError, ValueError, "'net'", "'net.weight'", latents=Z, drawn=True)


def test_exception_of_an_initial_value_is_the_callers(way):
    def model():
        sample("z", standard())
        param("s", lambda: 1 / 0)

    _, act = way.prepare(model, latents=Z)
    with pytest.raises(ZeroDivisionError):
        act()
    if list(get_param_store()):
        pytest.fail("something was declared")


@pytest.mark.ways("svi", "svi compiled", "svi particles")
def test_nan_gradient_at_a_finite_loss_error(way):
    def guide():
        w = param("w", torch.tensor(0.0))
        sample("z", dist.Normal(torch.where(w > -1, w, 0.0) * 0 + (w * w).sqrt() * 0 + w, 1.0))

    def model():
        sample("z", standard())

    way.refuses(model, NonFiniteError, ValueError, "'w'", "gradient", guide=guide, drawn=True)


@pytest.mark.ways("training")
def test_nan_loss_error_changes_nothing(way):
    def model(x):
        z = sample("z", standard())
        factor("f", x.log() * z)

    good, bad = torch.tensor(2.0), torch.tensor(-2.0)
    way.refuses(
        model,
        NonFiniteError,
        RuntimeError,
        "'f'",
        "unchanged",
        args=(bad,),
        good=(good,),
        latents=Z,
        drawn=True,
    )


def test_nan_factor_error(way):
    def model(x):
        z = sample("z", standard())
        factor("f", torch.stack([z, z * x]).sum())

    if way.name == "log likelihood":
        return
    way.refuses(
        model,
        SiteError,
        ValueError,
        "'f'",
        "1 NaN",
        "log_factor",
        args=(torch.tensor(math.nan),),
        latents=Z,
        drawn=True,
    )


@pytest.mark.parametrize("kind", [Trace_ELBO, TraceMeanField_ELBO])
def test_nan_loss_adds_no_gradients(kind):
    elbo = kind(num_particles=3, vectorize_particles=False)

    def model(x):
        z = sample("z", standard())
        factor("f", z * x)

    def guide(x):
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    elbo.loss(model, guide, torch.tensor(1.0))
    with pytest.raises(NonFiniteError, match="finite loss"):
        elbo.loss_and_grads(model, guide, torch.tensor(math.nan))
    if get_param_store().leaf("loc").grad is not None:
        pytest.fail("a gradient was added")


def test_failing_particle_leaves_no_gradient():
    runs = []

    def model():
        z = sample("z", standard())
        runs.append(z)
        if len(runs) == 3:
            raise ValueError("boom")

    def guide():
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    elbo = Trace_ELBO(num_particles=3, vectorize_particles=False)
    elbo.loss(lambda: sample("z", standard()), guide)
    with pytest.raises(ValueError, match="boom"):
        elbo.loss_and_grads(model, guide)
    if get_param_store().leaf("loc").grad is not None:
        pytest.fail("a gradient was added")


# Importance and Predictive


def test_infinite_weight_error(refuses):
    def model():
        z = sample("z", standard())
        factor("f", torch.where(z > 0, math.inf, 0.0))

    run = Importance(model, num_samples=20).run
    refuses(run, InferenceError, ValueError, "Importance", "inf", drawn=True)


def test_weights_that_are_all_zero_error(refuses):
    def model():
        sample("z", standard())
        factor("f", torch.tensor(-math.inf))

    refuses(Importance(model, num_samples=20).run, InferenceError, ValueError, "'f'", drawn=True)


@pytest.mark.parametrize(
    "samples", [3, [1.0], "z", torch.zeros(3), {"z": "abc"}, {"z": None}, {3: torch.zeros(3)}]
)
@pytest.mark.parametrize("run", [lambda m, s: Predictive(m, s)(), log_likelihood])
def test_posterior_samples_of_another_type_error(refuses, run, samples):
    def model():
        z = sample("z", standard())
        sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    refuses(
        lambda: run(model, samples),
        InferenceTypeError,
        TypeError,
        type(samples).__name__ if not isinstance(samples, dict) else "posterior_samples",
    )


@pytest.mark.parametrize("run", [lambda m, s: Predictive(m, s)(), log_likelihood])
def test_posterior_samples_with_nan_error(refuses, run):
    def model():
        z = sample("z", standard())
        sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    samples = {"z": torch.tensor([0.0, math.nan, math.nan])}
    refuses(lambda: run(model, samples), InferenceError, ValueError, "'z'", "2", "(1,)")


@pytest.mark.parametrize("run", [lambda m, s: Predictive(m, s)(), log_likelihood])
def test_posterior_samples_of_another_shape_error(refuses, run):
    def model():
        z = sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        sample("x", dist.Normal(z.sum(), 1.0), obs=torch.tensor(0.0))

    refuses(lambda: run(model, {"z": torch.zeros(4, 3)}), InferenceError, ValueError, "'z'", "2", "(3,)")


def test_predictive_of_chains_as_draws_error(refuses):
    def model():
        with plate("p", 3):
            sample("z", standard())

    refuses(
        lambda: Predictive(model, {"z": torch.zeros(2, 5, 3)})(),
        InferenceError,
        ValueError,
        "'z'",
        "batch_ndims=2",
    )


@pytest.mark.parametrize("ndims", [-1, 3, 1.0, True, "a"])
def test_bad_batch_ndims_error(refuses, ndims):
    refuses(
        lambda: Predictive(standard, {"z": torch.zeros(3)}, batch_ndims=ndims),
        InferenceError,
        ValueError,
        "batch_ndims",
        repr(ndims),
    )


@pytest.mark.parametrize("sites", [3, [3], ["y", None]])
def test_return_sites_that_are_no_names_error(refuses, sites):
    refuses(
        lambda: Predictive(standard, num_samples=2, return_sites=sites),
        InferenceTypeError,
        TypeError,
        "return_sites",
    )


def test_return_value_that_is_no_tensor_error(refuses):
    def model():
        sample("z", standard())
        return "text"

    refuses(
        Predictive(model, num_samples=2, return_sites=["_RETURN"]),
        InferenceTypeError,
        TypeError,
        "_RETURN",
        "str",
    )


# Guides and models that return odd things


@pytest.mark.ways("guided")
def test_guide_and_model_may_return_nothing(way):
    def guide():
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))
        return

    def model():
        sample("z", standard())
        return {"a": None}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrancherWarning)
        way.runs(model, guide=guide)


@pytest.mark.parametrize("value", [None, "loss", torch.zeros(2), 3 + 1j])
def test_loss_function_that_returns_no_scalar_error(refuses, value):
    svi = SVI(standard, standard, loss=lambda model, guide: value, compile=False)
    refuses(svi.step, InferenceTypeError, TypeError, "loss", "scalar")


def test_initial_values_outside_the_support_error(refuses):
    from brancher.infer import init_to_value

    def model():
        sample("z", dist.HalfNormal(1.0))

    guide = AutoNormal(model, init_loc_fn=init_to_value(values={"z": torch.tensor(-1.0)}))
    refuses(guide.setup, GuideError, ValueError, "'z'", "-1")


@pytest.mark.parametrize("value", [math.nan, math.inf, "a", torch.zeros(2)])
def test_bad_initial_values_error(refuses, value):
    from brancher.infer import init_to_value

    guide = AutoNormal(lambda: sample("z", standard()), init_loc_fn=init_to_value(values={"z": value}))
    refuses(guide.setup, SiteTypeError if isinstance(value, str) else GuideError, ValueError, "'z'")


@pytest.mark.parametrize("scale", [-1.0, 0.0, math.nan, math.inf, "a", None, True])
def test_bad_first_scale_of_a_guide_error(refuses, scale):
    refuses(lambda: AutoNormal(standard, init_scale=scale), GuideError, ValueError, "init_scale", repr(scale))


def test_param_without_data_in_a_store_of_its_own(refuses):
    with ParamStore():
        param("loc", torch.tensor(0.0))
    refuses(lambda: param("loc"), ParamError, KeyError, "'loc'")


def test_optimizer_never_makes_parameters_nan():
    def model():
        sample("x", dist.Normal(param("loc", torch.tensor(10.0)), 1.0), obs=torch.tensor(0.0))

    svi = SVI(model, lambda: None, optim.SGD({"lr": 1e30}), compile=False)
    svi.step()
    with pytest.raises(NonFiniteError, match="lower the learning rate"):
        svi.step()
    value = get_param_store()["loc"].item()
    if not math.isfinite(value):
        pytest.fail(f"loc is {value}")


def test_deterministic_of_a_number(way):
    def model():
        sample("z", standard())
        deterministic("d", 3)
        deterministic("e", [1, 2])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrancherWarning)
        if way.name == "log likelihood":
            return
        way.runs(model, latents=Z)


def test_module_with_nan_weights_error(refuses):
    net = torch.nn.Linear(2, 3)
    with torch.no_grad():
        net.bias[1] = float("nan")
    refuses(
        lambda: module("net", net),
        ParamError,
        ValueError,
        "'net.bias'",
        "1 NaN of 3",
        "the first at index (1,)",
        "initialise",
    )


@pytest.mark.parametrize("event", [(2,), (2, 3)])
def test_replay_of_another_event_shape_error(refuses, event):
    record = handlers.trace(lambda: sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))).get_trace()

    def model():
        sample("x", dist.Normal(torch.zeros(event), 1.0).to_event(len(event)))

    refuses(
        handlers.replay(model, trace=record), GuideError, ValueError, "'x'", str(event), "(3,)", "to_event"
    )
