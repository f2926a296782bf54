"""Everyday slips: arguments in the wrong order or number, the wrong kind of array, laws that do not fit."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from brancher import distributions as dist
from brancher import get_param_store, handlers, optim, param, plate, sample
from brancher.errors import (
    DistributionTypeError,
    HandlerTypeError,
    NonFiniteError,
    OptimTypeError,
    PlateError,
    SiteTypeError,
)
from brancher.infer import SVI, Predictive, Trace_ELBO
from brancher.infer.autoguide import AutoNormal

Y = torch.tensor([0.5, -1.0, 2.0])


def model(y=None):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    with plate("row", 3):
        sample("y", dist.Normal(mu, 1.0), obs=y)


def test_loss_in_place_of_the_optimizer_error(refuses):
    refuses(
        lambda: SVI(model, AutoNormal(model), Trace_ELBO(), optim.Adam({"lr": 0.1})),
        OptimTypeError,
        TypeError,
        "got the loss Trace_ELBO",
        "SVI(model, guide, optim, loss)",
    )


def test_model_without_an_argument_error(refuses):
    def needs_two(x, y):
        sample("y", dist.Normal(x, 1.0), obs=y)

    for run in (SVI(needs_two).step, Predictive(needs_two, num_samples=2)):
        refuses(
            lambda run=run: run(Y), HandlerTypeError, TypeError, "needs_two", "(x, y)", "got (Tensor)", "'y'"
        )


def test_guide_with_other_arguments_error(refuses):
    def guide():
        sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))

    svi = SVI(model, guide)
    refuses(lambda: svi.step(Y), HandlerTypeError, TypeError, "guide: expected the arguments ()", "*args")


def test_type_errors_of_the_users_own_code_pass():
    def broken(y):
        sample("y", dist.Normal(len(1.0), 1.0), obs=y)

    with pytest.raises(TypeError, match="object of type 'float' has no len"):
        handlers.trace(broken).get_trace(Y)


@pytest.mark.parametrize("given", [Y, 3, torch.tensor([1, 2])])
def test_observation_without_its_name_error(refuses, given):
    refuses(
        handlers.trace(lambda: sample("x", dist.Normal(0.0, 1.0), given)).get_trace,
        SiteTypeError,
        TypeError,
        "'x'",
        "sample shape",
        type(given).__name__,
        "obs=data",
    )


def test_sample_shape_by_position_and_by_name():
    law = dist.Normal(0.0, 1.0)
    assert sample("x", law, (2,)).shape == sample("x", law, sample_shape=(2,)).shape == (2,)


def test_array_as_a_parameter_of_a_law_error(refuses):
    refuses(
        lambda: dist.Normal(np.zeros(3), 1.0), DistributionTypeError, TypeError, "'loc'", "ndarray of float64"
    )


def test_data_as_the_size_of_a_plate_error(refuses):
    refuses(lambda: plate("row", Y), PlateError, ValueError, "'row'", "Tensor of shape (3,)", "len(data)")


@pytest.mark.parametrize("option", ["hide", "expose", "hide_types", "expose_types"])
def test_block_with_a_str_for_a_list_error(refuses, option):
    refuses(
        lambda: handlers.block(model, **{option: "mu"}),
        HandlerTypeError,
        TypeError,
        f"{option}=['mu']",
        "str",
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes on errors are new in Python 3.11")
@pytest.mark.parametrize("data", [torch.ones(3, 2, dtype=torch.float64), torch.ones(3, 2, dtype=torch.int64)])
def test_data_of_another_dtype_are_told_of(data):
    def regression():
        w = sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        sample("y", dist.Normal(data @ w, 1.0).to_event(1), obs=Y)

    with pytest.raises(RuntimeError) as caught:
        SVI(regression).step()
    if not any(".float()" in note for note in caught.value.__notes__):
        pytest.fail(f"expected a hint, got {caught.value.__notes__}")


def test_scale_that_leaves_its_constraint_error():
    def guide(y):
        sample("mu", dist.Normal(param("loc", torch.tensor(0.0)), param("scale", torch.tensor(0.05))))

    svi = SVI(model, guide, optim.SGD({"lr": 10.0}))
    with pytest.raises(NonFiniteError, match=r"its scale is not GreaterThan.*exp or softplus") as caught:
        for _ in range(5):
            svi.step(Y)
    if "Normal(" not in str(caught.value) or get_param_store()["scale"].isnan():
        pytest.fail(str(caught.value))


def test_guide_whose_law_leaves_the_support_error():
    def scales(y):
        scale = sample("scale", dist.HalfNormal(1.0))
        with plate("row", 3):
            sample("y", dist.Normal(0.0, scale), obs=y)

    def guide(y):
        sample("scale", dist.Normal(param("loc", torch.tensor(0.2)), 1.0))

    svi = SVI(scales, guide, optim.SGD({"lr": 1e-3}))
    with pytest.raises(
        (NonFiniteError, ValueError), match="support GreaterThanEq.*HalfNormal|HalfNormal.*support"
    ):
        for _ in range(50):
            svi.step(Y)
