"""Faults in shapes, plates and masks."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from brancher import (
    deterministic,
    factor,
    get_param_store,
    handlers,
    param,
    plate,
    plate_stack,
    sample,
    subsample,
)
from brancher import distributions as dist
from brancher.errors import (
    BrancherWarning,
    DistributionError,
    GuideError,
    HandlerError,
    HandlerTypeError,
    InferenceError,
    InferenceTypeError,
    ParamError,
    PlateError,
    PlateIndexError,
    SiteError,
    SiteTypeError,
    UnsupportedError,
)
from brancher.infer import SVI, Importance, Predictive, Trace_ELBO, log_likelihood

Z = {"z": ()}


def standard():
    return dist.Normal(0.0, 1.0)


# Plates against shapes


def test_plate_size_against_the_batch_shape_error(way):
    def model():
        z = sample("z", standard())
        with plate("p", 3):
            sample("x", dist.Normal(z * torch.ones(4), 1.0), obs=torch.zeros(4))

    way.refuses(model, PlateError, ValueError, "'x'", "'p'", "dim", "-1", "3", "4", latents=Z, drawn=True)


@pytest.mark.ways(but=["unscored", "log likelihood"])
def test_batch_outside_any_plate_error(way):
    def model():
        z = sample("z", standard())
        sample("x", dist.Normal(z * torch.ones(3), 1.0), obs=torch.zeros(3))

    if way.name == "trace":
        way.runs(model)  # a density of its own needs no plates
    elif way.name == "nuts":
        way.warns(
            model, "['x']", "to_event"
        )  # it adds up the whole density, whichever entries belong together
    else:
        way.refuses(
            model, SiteError, ValueError, "'x'", "[3]", "[]", "to_event(1)", "plate(", latents=Z, drawn=True
        )


def test_observation_that_broadcasts_wider_error(way):
    def model(y):
        z = sample("z", standard())
        with plate("p", 3):
            sample("x", dist.Normal(z, 1.0), obs=y)

    way.refuses(
        model,
        SiteError,
        ValueError,
        "'x'",
        "[3]",
        "[3, 1]",
        "[3, 3]",
        args=(torch.zeros(3, 1),),
        latents=Z,
        drawn=True,
    )


def test_observation_that_does_not_fit_error(way):
    def model(y):
        z = sample("z", standard())
        with plate("p", 3):
            sample("x", dist.Normal(z, 1.0), obs=y)

    way.refuses(
        model, SiteError, ValueError, "'x'", "[3]", "[4]", args=(torch.zeros(4),), latents=Z, drawn=True
    )


@pytest.mark.ways(but=["normal guide", "delta guide"])
def test_scalar_observation_in_a_plate_warns(way):
    def model(y):
        z = sample("z", standard())
        with plate("p", 3):
            sample("x", dist.Normal(z, 1.0), obs=y)

    way.warns(model, "'x'", "'p'", "3 times", args=(torch.tensor(0.0),), latents=Z)


def test_subsampled_plate_with_all_the_data_error(way):
    def model(y):
        z = sample("z", standard())
        with plate("p", 10, subsample_size=2):
            sample("x", dist.Normal(z, 1.0), obs=y)

    if way.name == "nuts":
        way.refuses(model, UnsupportedError, NotImplementedError, "'p'", args=(torch.zeros(2),), latents=Z)
    way.refuses(
        model, SiteError, ValueError, "'x'", "10", "2", args=(torch.zeros(10),), latents=Z, drawn=True
    )


def test_subsampled_plate_with_parameters_of_all_rows_error(way):
    def model():
        z = sample("z", standard())
        with plate("p", 10, subsample_size=2):
            sample("x", dist.Normal(z * torch.ones(10), 1.0), obs=torch.zeros(2))

    way.refuses(model, PlateError, ValueError, "'x'", "'p'", "10", "2", "subsample", latents=Z, drawn=True)


# Plates themselves


@pytest.mark.parametrize("dim", [0, 1, 2.0, True, "left"])
def test_plate_dim_that_is_not_negative_error(refuses, dim):
    refuses(lambda: plate("p", 3, dim=dim), PlateError, ValueError, "'p'", "dim", repr(dim))


@pytest.mark.parametrize(
    "size", [-3, 2.5, "three", None, True, torch.tensor([1, 2]), torch.tensor(2.5), math.nan]
)
def test_plate_of_a_bad_size_error(refuses, size):
    refuses(lambda: plate("p", size), PlateError, ValueError, "'p'", "size")


def test_negative_plate_in_a_model_error(way):
    def model():
        sample("z", standard())
        with plate("p", -3):
            sample("x", standard())

    way.refuses(model, PlateError, ValueError, "'p'", "-3", latents=Z, drawn=True)


def test_empty_plate_works(way):
    def model():
        z = sample("z", standard())
        with plate("p", 0):
            sample("x", dist.Normal(z, 1.0), obs=torch.zeros(0))

    if way.name == "importance guide":
        return  # tested by the others; its weights say nothing here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrancherWarning)
        way.runs(model, latents=Z)


@pytest.mark.parametrize("count", [-2, 0, 11, 2.0, True, "two"])
def test_bad_subsample_size_error(refuses, count):
    refuses(lambda: plate("p", 10, subsample_size=count), PlateError, ValueError, "'p'", repr(count), "10")


@pytest.mark.parametrize(("rows", "first"), [([0, 10], "10"), ([-1, 2], "-1"), (torch.tensor([3, 11]), "11")])
def test_rows_outside_the_plate_error(refuses, rows, first):
    refuses(lambda: plate("p", 10, subsample=rows), PlateIndexError, IndexError, "'p'", "10", first)


@pytest.mark.parametrize("rows", [[0.5, 1.0], [[0, 1]], "ab", [True, False], {"a": 1}, 3])
def test_rows_that_are_no_rows_error(refuses, rows):
    refuses(lambda: plate("p", 10, subsample=rows), PlateError, ValueError, "'p'", "subsample")


def test_plate_of_a_dim_that_is_taken_error(way):
    def model():
        sample("z", standard())
        with plate("p", 3, dim=-1), plate("q", 2, dim=-1):
            sample("x", standard(), obs=torch.zeros(2, 3))

    way.refuses(model, PlateError, ValueError, "'q'", "'p'", "dim=-2", latents=Z, drawn=True)


def test_plate_entered_while_iterating_it_error(way):
    def model():
        sample("z", standard())
        p = plate("p", 3)
        for i in p:
            with p:
                sample(f"x_{i}", standard(), obs=torch.zeros(3))

    way.refuses(model, PlateError, ValueError, "'p'", latents=Z, drawn=True)


def test_param_in_a_plate_of_another_size_error(way):
    def model():
        z = sample("z", standard())
        with plate("p", 3):
            w = param("w", torch.ones(4), event_dim=0)
            sample("x", dist.Normal(z * w, 1.0), obs=torch.zeros(3))

    way.refuses(model, PlateError, ValueError, "'w'", "'p'", "3", "4", latents=Z, drawn=True)


@pytest.mark.parametrize("sizes", [[-1, 2], [2.5], "ab", 3, [None]])
def test_bad_plate_stack_error(refuses, sizes):
    def act():
        with plate_stack("grid", sizes):
            pass

    refuses(act, PlateError, ValueError, "'grid")


def test_plate_stack_dim_error(refuses):
    def act():
        with plate_stack("grid", [2, 3], rightmost_dim=0):
            pass

    refuses(act, PlateError, ValueError, "'grid'", "dim")


@pytest.mark.parametrize("coords", [["a", "b"], 3, "ab"])
def test_coords_that_do_not_fit_error(refuses, coords):
    refuses(lambda: plate("p", 3, coords=coords), PlateError, ValueError, "'p'", "coords")


def test_subsample_of_data_of_another_size_error(refuses):
    def act():
        with plate("p", 10, subsample=torch.tensor([1, 2])):
            subsample(torch.zeros(7), event_dim=0)

    refuses(act, PlateError, ValueError, "'p'", "10", "7")


@pytest.mark.parametrize("event_dim", [-1, 1.5, None, "a"])
def test_subsample_of_a_bad_event_dim_error(refuses, event_dim):
    def act():
        with plate("p", 10, subsample=torch.tensor([1, 2])):
            subsample(torch.zeros(10), event_dim=event_dim)

    refuses(act, SiteTypeError, TypeError, "event_dim", repr(event_dim))


# Event dimensions


@pytest.mark.parametrize("count", [2, -2])
def test_to_event_beyond_the_batch_error(refuses, count):
    refuses(lambda: dist.Normal(torch.zeros(3), 1.0).to_event(count), DistributionError, ValueError, "2", "1")


@pytest.mark.ways("guided")
def test_other_event_dim_in_the_guide_error(way):
    def model():
        sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    def guide():
        with plate("p", 3):
            sample("z", standard())

    way.refuses(model, GuideError, ValueError, "'z'", "1", "0", "to_event", guide=guide, drawn=True)


@pytest.mark.ways("guided")
def test_other_batch_shape_in_the_guide_error(way):
    def model():
        with plate("p", 3):
            sample("z", standard())

    way.refuses(model, GuideError, ValueError, "'z'", "(3,)", "()", latents={"z": ()}, drawn=True)


@pytest.mark.ways("guided")
def test_other_event_shape_in_the_guide_error(way):
    def model():
        sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    way.refuses(model, GuideError, ValueError, "'z'", "(3,)", "(4,)", latents={"z": (4,)}, drawn=True)


# Masks and scales


@pytest.mark.ways(but=["unscored"])
def test_mask_that_enlarges_the_batch_error(way):
    def model():
        z = sample("z", standard())
        with handlers.mask(mask=torch.ones(3, dtype=torch.bool)):
            sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    way.refuses(model, SiteError, ValueError, "'x'", "mask", "(3,)", "()", latents=Z, drawn=True)


@pytest.mark.parametrize(
    "mask", [torch.ones(3), torch.ones(3, dtype=torch.int64), 1, 0.5, "yes", None, [True]]
)
def test_mask_of_another_dtype_error(refuses, mask):
    refuses(lambda: handlers.mask(mask=mask), HandlerTypeError, TypeError, "mask", "bool")


@pytest.mark.parametrize("mask", [torch.ones(3), torch.tensor([0, 1, 1]), "yes", 0.5])
def test_obs_mask_of_another_dtype_error(refuses, mask):
    def act():
        with plate("p", 3):
            sample("x", standard(), obs=torch.zeros(3), obs_mask=mask)

    refuses(act, SiteTypeError, TypeError, "'x'", "obs_mask", "bool")


def test_obs_mask_of_another_shape_error(way):
    def model():
        z = sample("z", standard())
        with plate("p", 3):
            sample("x", dist.Normal(z, 1.0), obs=torch.zeros(3), obs_mask=torch.tensor([True, False]))

    way.refuses(model, SiteError, ValueError, "'x'", "obs_mask", "(2,)", "(3,)", latents=Z, drawn=True)


@pytest.mark.parametrize(
    "factor_",
    [
        -1.0,
        0.0,
        0,
        math.nan,
        math.inf,
        torch.tensor(-1.0),
        torch.tensor([1.0, math.nan]),
        torch.tensor(math.inf),
    ],
)
def test_bad_scale_error(refuses, factor_):
    refuses(lambda: handlers.scale(scale=factor_), HandlerError, ValueError, "scale")


@pytest.mark.parametrize("factor_", ["a", None, [1.0], True])
def test_scale_of_another_type_error(refuses, factor_):
    refuses(
        lambda: handlers.scale(scale=factor_), HandlerTypeError, TypeError, "scale", type(factor_).__name__
    )


@pytest.mark.ways(but=["unscored"])
def test_scale_that_enlarges_the_batch_error(way):
    def model():
        z = sample("z", standard())
        with handlers.scale(scale=torch.ones(3)):
            sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    way.refuses(model, SiteError, ValueError, "'x'", "scale", "(3,)", "()", latents=Z, drawn=True)


# Factors


@pytest.mark.ways("guided")
def test_factor_in_a_guide_without_has_rsample_error(way):
    def guide():
        sample("z", standard())
        factor("f", torch.tensor(1.0))

    def model():
        sample("z", standard())

    way.refuses(model, GuideError, ValueError, "'f'", "has_rsample", guide=guide, drawn=True)


@pytest.mark.ways(but=["unscored", "trace", "log likelihood"])
def test_factor_of_a_batch_outside_plates_error(way):
    def model():
        sample("z", standard())
        factor("f", torch.zeros(3))

    if way.name == "nuts":
        way.warns(model, "['f']", "to_event")
    else:
        way.refuses(model, SiteError, ValueError, "'f'", "[3]", latents=Z, drawn=True)


@pytest.mark.parametrize("value", ["a", None, [None], object()])
def test_factor_of_another_type_error(refuses, value):
    refuses(lambda: factor("f", value), SiteTypeError, TypeError, "'f'", type(value).__name__)


# What must work


@pytest.mark.parametrize("num_particles", [1, 3])
def test_model_and_guide_see_the_same_rows(num_particles):
    seen = []

    def model(y):
        with plate("p", 10, subsample_size=4) as rows:
            seen.append(rows)
            sample("z", standard())

    def guide(y):
        with plate("p", 10, subsample_size=4) as rows:
            seen.append(rows)
            sample("z", dist.Normal(param("loc", torch.zeros(())), 1.0))

    svi = SVI(
        model, guide, loss=Trace_ELBO(num_particles=num_particles, vectorize_particles=True), compile=False
    )
    svi.step(torch.zeros(10))
    seen.clear()
    svi.step(torch.zeros(10))
    if not torch.equal(*seen):
        pytest.fail(f"{seen}")


@pytest.mark.ways(
    "trace",
    "svi",
    "svi compiled",
    "svi autoguide",
    "svi particles",
    "elbo",
    "mean field",
    "log likelihood",
    "nuts",
    "importance prior",
    "importance guide",
)
def test_masked_nan_data_do_not_count(way):
    def model(y):
        z = sample("z", standard())
        with plate("p", 3), handlers.mask(mask=~torch.isnan(y)):
            sample("x", dist.Normal(z, 1.0), obs=y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrancherWarning)
        got = way.runs(model, args=(torch.tensor([0.0, math.nan, 1.0]),), latents=Z)
    if way.name in ("trace", "svi", "elbo") and not math.isfinite(float(got)):
        pytest.fail(str(got))
    if not all(bool(torch.isfinite(value).all()) for value in get_param_store().values()):
        pytest.fail("a parameter is NaN")


def test_vectorized_particles_without_max_plate_nesting():
    def model(y):
        z = sample("z", standard())
        with plate("p", 3), plate("q", 2):
            sample("x", dist.Normal(z, 1.0), obs=y)

    def guide(y):
        sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    value = Trace_ELBO(num_particles=5, vectorize_particles=True).loss(model, guide, torch.zeros(2, 3))
    if not math.isfinite(value):
        pytest.fail(str(value))


def test_nan_from_other_masked_rows_does_not_reach_gradients():
    def model(x, y):
        w = sample("w", standard())
        with plate("p", 2), handlers.mask(mask=torch.tensor([True, False])):
            sample("y", dist.Normal(w * x, 1.0), obs=y)

    def guide(x, y):
        sample("w", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    data = torch.tensor([1.0, 0.0]), torch.tensor([1.0, math.inf])
    if not math.isfinite(SVI(model, guide, compile=False).step(*data)):
        pytest.fail("not finite")


# Counts, algorithms' own arguments


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "3", None])
def test_number_of_particles_error(refuses, count):
    refuses(lambda: Trace_ELBO(num_particles=count), InferenceError, ValueError, "num_particles", repr(count))


@pytest.mark.parametrize("nesting", [-1, 1.5, "a", True])
def test_max_plate_nesting_error(refuses, nesting):
    refuses(
        lambda: Trace_ELBO(max_plate_nesting=nesting),
        InferenceError,
        ValueError,
        "max_plate_nesting",
        repr(nesting),
    )


def test_max_plate_nesting_below_the_models_error(refuses):
    def model():
        z = sample("z", standard())
        with plate("p", 3), plate("q", 2):
            sample("x", dist.Normal(z, 1.0), obs=torch.zeros(2, 3))

    def guide():
        sample("z", standard())

    elbo = Trace_ELBO(num_particles=2, max_plate_nesting=1, vectorize_particles=True)
    refuses(lambda: elbo.loss(model, guide), InferenceError, ValueError, "max_plate_nesting", "2", "1")


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "3"])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: Predictive(standard, num_samples=n),
        lambda n: Importance(standard, num_samples=n),
        lambda n: Predictive(standard, num_samples=2, batch_size=n),
    ],
)
def test_number_of_samples_error(refuses, make, count):
    refuses(lambda: make(count), InferenceError, ValueError, repr(count))


@pytest.mark.parametrize("make", [Predictive, Importance, SVI])
@pytest.mark.parametrize("model", [None, 3, "model", {}])
def test_model_that_is_no_function_error(refuses, make, model):
    refuses(lambda: make(model), InferenceTypeError, TypeError, "model", type(model).__name__)


def test_likelihood_of_no_model_error(refuses):
    refuses(
        lambda: log_likelihood({"z": torch.zeros(2)}, lambda: None),
        InferenceTypeError,
        TypeError,
        "model",
        "dict",
    )


@pytest.mark.parametrize("value", ["a", None, [None], object(), [1, "b"]])
def test_deterministic_of_another_type_error(refuses, value):
    refuses(lambda: deterministic("d", value), SiteTypeError, TypeError, "'d'", type(value).__name__)


def test_param_of_a_bad_event_dim_error(refuses):
    refuses(lambda: param("w", torch.zeros(2), event_dim=3), ParamError, ValueError, "'w'", "event_dim", "3")


def test_subsample_of_another_size_error(refuses):
    words = ("'p'", "subsample_size=2", "3")
    refuses(lambda: plate("p", 5, subsample_size=2, subsample=[0, 1, 2]), PlateError, ValueError, *words)


def test_subsample_outside_the_plate_error(refuses):
    words = ("'p'", "[0, 3)", "2 outside", "7")
    refuses(lambda: plate("p", 3, subsample=torch.tensor([0, 7, -1])), PlateError, IndexError, *words)


def test_event_dim_of_another_kind_error(refuses):
    for event_dim in ("1", 1.0, True):
        refuses(
            lambda value=event_dim: param("w", torch.ones(3), event_dim=value),
            ParamError,
            TypeError,
            "'w'",
            "event_dim",
            repr(event_dim),
        )


@pytest.mark.ways("svi", "svi particles", "elbo", "predictive guide", "importance guide")
def test_subsample_of_another_size_in_the_guide_error(way):
    def model():
        with plate("p", 5, subsample_size=2):
            sample("z", standard())

    def guide():
        with plate("p", 5, subsample_size=3):
            sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    way.refuses(model, PlateError, ValueError, "'p'", "2", "3", guide=guide, drawn=True)
