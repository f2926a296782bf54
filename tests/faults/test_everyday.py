"""Everyday slips: arguments in the wrong order or number, the wrong kind of array, laws that do not fit."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from brancher import distributions as dist
from brancher import get_param_store, handlers, optim, param, plate, sample
from brancher.errors import (
    BrancherWarning,
    DistributionError,
    DistributionTypeError,
    GuideError,
    HandlerTypeError,
    NonFiniteError,
    OptimTypeError,
    PlateError,
    SiteTypeError,
    UnknownNameError,
)
from brancher.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from brancher.infer.autoguide import AutoNormal
from brancher.infer.reparam import LocScaleReparam
from brancher.nn import PyroModule

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


def test_module_without_an_argument_error(refuses):
    class Regression(PyroModule):
        def forward(self, x, y=None):
            sample("y", dist.Normal(sample("w", dist.Normal(0.0, 1.0)) * x, 1.0).to_event(1), obs=y)

    svi = SVI(Regression(), AutoNormal(Regression()))
    refuses(svi.step, HandlerTypeError, TypeError, "Regression: expected the arguments (x, y=None)", "'x'")


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


def in_rows(size=3, name="row", **options):
    def program(loc):
        with plate(name, size, **options):
            return sample("z", dist.Normal(loc, 1.0))

    return program


def test_subsampled_plate_of_another_name_in_the_guide_error(refuses):
    svi = SVI(
        lambda: in_rows(6, subsample_size=3)(torch.tensor(0.0)),
        lambda: in_rows(6, "rows", subsample_size=3)(param("loc", torch.tensor(0.0))),
    )
    refuses(
        svi.step,
        GuideError,
        ValueError,
        "'z'",
        "['row']",
        "'rows'; did you mean 'row'",
        "same rows",
        drawn=True,
    )


def test_plate_of_another_name_in_the_guide_warns():
    svi = SVI(lambda: in_rows()(0.0), lambda: in_rows(name="rows")(param("loc", torch.tensor(0.0))))
    with pytest.warns(
        BrancherWarning, match="site 'z' in the plates .*'row'.* got 'rows'; did you mean 'row'"
    ):
        svi.step()


def test_discrete_site_that_nobody_guides_error(refuses):
    def mixed():
        k = sample("k", dist.Categorical(torch.ones(2) / 2))
        sample("y", dist.Normal(k.float(), 1.0), obs=torch.tensor(1.0))

    svi = SVI(mixed, lambda: None, loss=TraceEnum_ELBO())
    refuses(svi.step, GuideError, ValueError, "['k']", "config_enumerate(model)", drawn=True)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes on errors are new in Python 3.11")
@pytest.mark.parametrize("slip", ["branch", "index"])
def test_slips_with_enumerated_values_are_told_of(slip):
    @config_enumerate
    def mixed():
        k = sample("k", dist.Bernoulli(0.5))
        locs = torch.tensor([0.0, 1.0])
        loc = (locs[1] if k > 0 else locs[0]) if slip == "branch" else locs[k]
        sample("y", dist.Normal(loc, 1.0), obs=torch.tensor(1.0))

    with pytest.raises((RuntimeError, IndexError)) as caught:
        SVI(mixed, lambda: None, loss=TraceEnum_ELBO(max_plate_nesting=0)).step()
    hint = "torch.where" if slip == "branch" else "draw.long()"
    if not any(hint in note for note in caught.value.__notes__):
        pytest.fail(f"expected {hint}, got {caught.value.__notes__}")


def test_misspelled_infer_option_warns():
    with pytest.warns(
        BrancherWarning, match="site 'x': expected infer options .* 'enumrate'; did you mean 'enumerate'"
    ):
        sample("x", dist.Bernoulli(0.5), infer={"enumrate": "parallel"})
    sample("x", dist.Bernoulli(0.5), infer={"mine": 1})


def test_unknown_node_of_a_trace_error(refuses):
    record = handlers.trace(model).get_trace(Y)
    refuses(
        lambda: record.nodes["mue"], UnknownNameError, KeyError, "['mu', 'y']", "'mue'", "did you mean 'mu'"
    )


def test_class_of_a_strategy_error(refuses):
    changed = handlers.reparam(model, config={"mu": LocScaleReparam})
    refuses(
        lambda: changed(Y),
        HandlerTypeError,
        TypeError,
        "an instance of a strategy",
        "'mu'",
        "LocScaleReparam()",
    )


def test_lower_bound_other_than_zero_error(refuses):
    text = refuses(lambda: dist.Wishart(1.0, torch.eye(3)), DistributionError, ValueError, "'df'", "2")
    if "its lower bound plus" not in text:
        pytest.fail(text)
