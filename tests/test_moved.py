"""Pyro's module paths can be imported, and hold the names that programs import from them."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import brancher
from brancher import distributions as dist
from brancher import handlers, infer, poutine
from brancher.errors import AbsentNameError
from brancher.moved import ELSEWHERE, MODULES, RENAMED, find


@pytest.mark.parametrize("path", MODULES)
def test_path_can_be_imported(path):
    module = importlib.import_module(path)
    assert module.__name__ == path and module.__doc__.startswith("Pyro's path")


@pytest.mark.parametrize("name", RENAMED)
def test_renamed_is_there(name):
    assert callable(find("brancher.poutine.handlers", name))


@pytest.mark.parametrize("module", ELSEWHERE)
def test_module_of_ours_still_refuses_unknown_names(module):
    with pytest.raises(AttributeError, match="has no attribute 'never_there'"):
        importlib.import_module(module).never_there  # noqa: B018


@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        ("brancher.infer.mcmc.nuts", "NUTS", infer.NUTS),
        ("brancher.infer.mcmc.api", "MCMC", infer.MCMC),
        ("brancher.infer.autoguide.guides", "AutoDelta", infer.autoguide.AutoDelta),
        ("brancher.infer.discrete", "infer_discrete", infer.infer_discrete),
        ("brancher.poutine.messenger", "Messenger", handlers.Messenger),
        ("brancher.poutine.trace_messenger", "TraceMessenger", handlers.trace),
        ("brancher.poutine.infer_config_messenger", "InferConfigMessenger", handlers.infer_config),
        ("brancher.poutine.runtime", "NonlocalExit", handlers.NonlocalExit),
        ("brancher.distributions.torch_distribution", "TorchDistribution", dist.TorchDistribution),
        ("brancher.distributions", "TransformModule", dist.transforms.TransformModule),
        ("brancher.util", "set_rng_seed", brancher.set_rng_seed),
        ("brancher.distributions.torch_distribution", "TorchDistributionMixin", dist.TorchDistribution),
        ("brancher.distributions.transforms", "biject_to", dist.biject_to),
        ("brancher.distributions.conjugate", "BetaBinomial", dist.BetaBinomial),
        ("brancher.infer.reparam.softmax", "GumbelSoftmaxReparam", infer.reparam.GumbelSoftmaxReparam),
        ("brancher.optim.adagrad_rmsprop", "PyroOptim", brancher.optim.PyroOptim),
    ],
)
def test_name_is_what_it_is_here(path, name, expected):
    assert getattr(importlib.import_module(path), name) is expected


def test_module_is_an_attribute_without_its_own_import():
    code = "import brancher as pyro; pyro.util.set_rng_seed(0); pyro.poutine.runtime.am_i_wrapped()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_absent_module_says_what_to_use():
    with pytest.raises(
        AbsentNameError, match="brancher.contrib: expected a module of brancher, got one of Pyro"
    ):
        importlib.import_module("brancher.contrib.gp")
    with pytest.raises(AbsentNameError, match="use Importance and its resample"):
        importlib.import_module("brancher.infer.resampler")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("brancher.never_there")


def test_absent_name_of_a_path_says_what_to_use():
    with pytest.raises(ImportError, match="use Predictive"):
        from brancher.infer.abstract_infer import TracePredictive  # noqa: F401
    with pytest.raises(ImportError, match=r"did you mean 'torch_item'\?"):
        from brancher.infer.util import torch_items  # noqa: F401


def test_random_state_is_put_back():
    from brancher.util import get_rng_state, set_rng_state

    state = get_rng_state()
    first = torch.rand(()).item(), random.random(), np.random.rand()
    set_rng_state(state)
    assert (torch.rand(()).item(), random.random(), np.random.rand()) == first


def test_broadcast_shape_strict():
    from brancher.distributions.util import broadcast_shape

    assert broadcast_shape((3, 1), (2,)) == (3, 2)
    assert broadcast_shape((1, 2), (2,), strict=True) == (1, 2)
    with pytest.raises(ValueError, match="broadcast"):
        broadcast_shape((3, 1), (3, 2), strict=True)


def test_sums_and_scales():
    from brancher.distributions.util import scale_and_mask, sum_leftmost, sum_rightmost

    x = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(sum_leftmost(x, 1), x.sum(0)) and torch.equal(sum_leftmost(x, -1), x.sum((0, 1)))
    assert torch.equal(sum_rightmost(x, 2), x.sum((1, 2)))
    nan = torch.tensor([1.0, float("nan")])
    assert scale_and_mask(nan, 2.0, torch.tensor([True, False])).tolist() == [2.0, 0.0]
    assert scale_and_mask(nan, mask=False).tolist() == [0.0, 0.0]


def test_numbers_warn():
    from brancher.util import warn_if_inf, warn_if_nan

    with pytest.warns(UserWarning, match="loss: expected numbers, got NaN"):
        warn_if_nan(torch.tensor([0.0, float("nan")]), "loss")
    with pytest.warns(UserWarning, match="expected finite numbers, got -inf"):
        warn_if_inf(float("-inf"), "loss", allow_posinf=True)


def test_numbers_warn_of_gradients():
    from brancher.util import warn_if_inf, warn_if_nan

    x = torch.zeros((), requires_grad=True)
    with pytest.warns(UserWarning, match="backward loss: expected numbers, got NaN"):
        (warn_if_nan(x * 1.0, "loss") * float("nan")).backward()
    with pytest.warns(UserWarning, match="backward loss: expected finite numbers, got inf"):
        (warn_if_inf(x * 1.0, "loss") * float("inf")).backward()


def test_copies_of_laws_and_modules():
    from brancher.distributions.util import deep_to, detach

    loc = torch.zeros(2, requires_grad=True)
    law = dist.TransformedDistribution(dist.Normal(loc, 1.0).to_event(1), [dist.transforms.spline(2)])
    twin = deep_to({"law": [law, law]}, torch.float64)["law"]
    assert twin[0] is twin[1] and twin[0].sample().dtype == torch.float64
    assert law.sample().dtype == torch.float32
    cut = detach(law)
    assert not cut.rsample().requires_grad and law.rsample().requires_grad
    torch.testing.assert_close(cut.log_prob(torch.ones(2)), law.log_prob(torch.ones(2)))
    linear = torch.nn.Linear(2, 1)
    moved = deep_to(linear, torch.float64)
    assert moved.weight.dtype == torch.float64 and linear.weight.dtype == torch.float32
    assert isinstance(moved.weight, torch.nn.Parameter) and moved.weight.requires_grad


def test_init_messenger_sets_values():
    from brancher.infer.autoguide.initialization import InitMessenger, init_to_value

    def model():
        brancher.sample(
            "y", dist.Normal(brancher.sample("x", dist.Normal(0.0, 1.0)), 1.0), obs=torch.tensor(1.0)
        )

    with InitMessenger(init_to_value(values={"x": torch.tensor(2.0)})):
        record = handlers.trace(model).get_trace()
    assert record.nodes["x"]["value"].item() == 2.0 and record.nodes["y"]["value"].item() == 1.0


def test_constants_are_recognised():
    from brancher.distributions.util import is_identically_one, is_identically_zero

    assert is_identically_zero(0) and is_identically_zero(torch.tensor(0.0)) and is_identically_one(1.0)
    assert not is_identically_zero(torch.zeros((), requires_grad=True))


def test_site_questions():
    from brancher.poutine.util import prune_subsample_sites, site_is_factor, site_is_subsample

    def model():
        with brancher.plate("row", 4, subsample_size=2):
            brancher.sample("x", dist.Normal(0.0, 1.0))
        brancher.factor("f", torch.tensor(1.0))

    record = handlers.trace(model).get_trace()
    assert site_is_subsample(record.nodes["row"]) and site_is_factor(record.nodes["f"])
    assert prune_subsample_sites(record).names() == ["x", "f"] and "row" in record


def test_escape_functions_look_at_what_a_trace_lacks():
    from brancher.poutine.util import all_escape, discrete_escape

    def model():
        brancher.sample("x", dist.Normal(0.0, 1.0))
        brancher.sample("y", dist.Bernoulli(0.5))

    def leaves_at(test, known):
        with pytest.raises(handlers.NonlocalExit) as exit:
            handlers.escape(model, escape_fn=lambda site: test(known, site))()
        return exit.value.site.name

    known = handlers.Trace()
    assert (leaves_at(all_escape, known), leaves_at(discrete_escape, known)) == ("x", "y")
    known.add_node("x", type="sample")
    assert leaves_at(all_escape, known) == "y"


def test_effectful_function_asks_the_handlers():
    from brancher.poutine.runtime import effectful, get_plates

    class Answer(poutine.messenger.Messenger):
        def _pyro_apply(self, msg):
            msg["value"] = msg["fn"](*msg["args"]) + 10
            msg["done"] = True

    @effectful(type="apply")
    def double(x):
        return 2 * x

    assert double(3) == 6
    with Answer():
        assert double(3) == 16
    with poutine.trace():
        assert double(3) == 6
    with brancher.plate("row", 2):
        assert [frame.name for frame in get_plates()] == ["row"]


def test_block_messengers_hides_some():
    from brancher.poutine.messenger import block_messengers

    def is_scale(handler):
        return isinstance(handler, poutine.scale)

    with poutine.trace() as outer, poutine.scale(scale=2.0), block_messengers(is_scale) as hidden:
        brancher.sample("x", dist.Normal(0.0, 1.0))
    assert len(hidden) == 1 and outer.trace.nodes["x"]["scale"] == 1.0


def test_summary_as_dicts(capsys):
    from brancher.infer.mcmc.util import print_summary, select_samples, summary

    draws = {"x": torch.arange(40.0).reshape(2, 20), "v": torch.randn(2, 20, 3)}
    table = summary(draws, prob=0.5)
    assert table["x"]["mean"] == 19.5 and list(table["x"])[3:5] == ["25.0%", "75.0%"]
    assert table["v"]["n_eff"].shape == (3,)
    print_summary(draws)
    assert "v[2]" in capsys.readouterr().out
    assert select_samples(draws)["v"].shape == (40, 3)
    assert select_samples(draws, group_by_chain=True)["x"].shape == (2, 20)
    assert select_samples(draws, 7)["v"].shape == (7, 3)


def test_fake_families_have_no_pathwise_gradient():
    from brancher.distributions.testing.fakes import NonreparameterizedNormal

    loc = torch.zeros((), requires_grad=True)
    assert not NonreparameterizedNormal(loc, 1.0).sample().requires_grad
    assert not NonreparameterizedNormal(loc, 1.0).expand([2]).has_rsample


def test_small_tools():
    from brancher.infer.util import torch_backward, torch_exp, torch_item, torch_sum, zero_grads
    from brancher.util import ignore_jit_warnings, optional, timed

    x = torch.ones(2, requires_grad=True)
    torch_backward((2 * x).sum())
    torch_backward(1.0)
    assert x.grad.tolist() == [2.0, 2.0]
    zero_grads([x])
    assert x.grad.tolist() == [0.0, 0.0]
    assert torch_item(torch.tensor(2.0)) == torch_item(2.0) == 2.0 and torch_exp(0.0) == 1.0
    assert torch_sum(torch.ones(2, 3), ()).shape == (2, 3) and torch_sum(torch.ones(2, 3), (-1,)).shape == (
        2,
    )
    with ignore_jit_warnings(["never"]), optional(poutine.scale(scale=2.0), False), timed() as clock:
        assert brancher.poutine.runtime.am_i_wrapped() is False
    assert clock.elapsed >= 0


def test_random_walk_under_pyros_name():
    from brancher.infer.mcmc import RandomWalkKernel

    kernel = RandomWalkKernel(lambda: brancher.sample("x", dist.Normal(0.0, 1.0)), init_step_size=0.3)
    assert isinstance(kernel, infer.RandomWalk) and kernel.step_size == 0.3


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("optim", "Adam"),
        ("clipped_adam", "ClippedAdam"),
        ("pytorch_optimizers", "ExponentialLR"),
        ("lr_scheduler", "SGD"),
    ],
)
def test_optimizers_are_found_under_pyros_paths(path, name):
    module = importlib.import_module(f"brancher.optim.{path}")
    assert type(getattr(module, name)) is type(getattr(brancher.optim, name))


def test_importance_trace_pairs_and_scores():
    from brancher.infer.enum import get_importance_trace

    loc = torch.tensor(0.3, requires_grad=True)

    def model(x):
        z = brancher.sample("z", dist.Normal(0.0, 1.0))
        brancher.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        brancher.sample("z", dist.Normal(loc, 1.0))

    for detach in (False, True):
        record, drawn = get_importance_trace("flat", 0, model, guide, (torch.tensor(1.0),), {}, detach)
        z = drawn.nodes["z"]["value"]
        expected = dist.Normal(z, 1.0).log_prob(torch.tensor(1.0))
        torch.testing.assert_close(record.nodes["x"]["log_prob_sum"], expected)
        assert z.requires_grad is not detach and drawn.nodes["z"]["log_prob"].requires_grad


def test_importance_weights_in_a_batch():
    from brancher.infer.importance import vectorized_importance_weights

    def model(y):
        z = brancher.sample("z", dist.Normal(0.0, 1.0))
        with brancher.plate("row", 3):
            brancher.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y):
        brancher.sample("z", dist.Normal(0.5, 0.7))

    y = torch.tensor([0.3, 1.0, -0.5])
    for normalized in (False, True):
        weights, record, drawn = vectorized_importance_weights(
            model, guide, y, num_samples=5, max_plate_nesting=1, normalized=normalized
        )
        z = record["z"].value.reshape(5)
        assert torch.equal(drawn["z"].value.reshape(5), z)
        expected = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z[:, None], 1.0).log_prob(y).sum(-1)
        expected = expected - dist.Normal(0.5, 0.7).log_prob(z)
        torch.testing.assert_close(weights, expected.log_softmax(0) if normalized else expected)


def test_psis_diagnostic_is_the_shape_of_the_weights():
    from brancher.infer.importance import psis_diagnostic

    def model():
        brancher.sample("z", dist.Normal(0.0, 1.0))

    def narrow():
        brancher.sample("z", dist.Normal(0.0, 0.3))

    torch.manual_seed(0)
    assert (
        psis_diagnostic(model, lambda: brancher.sample("z", dist.Normal(0.1, 1.0)), num_particles=500) < 0.5
    )
    with pytest.warns(UserWarning, match="k-hat"):
        assert psis_diagnostic(model, narrow, num_particles=500, max_simultaneous_particles=100) > 0.5


def test_settings_are_those_of_validation_and_of_modules():
    from brancher import settings

    assert set(settings.get()) == {
        "module_local_params",
        *(f"validate_{part}" for part in ("distributions_pyro", "distributions_torch", "infer", "poutine")),
    }
    with settings.context(validate_infer=False, module_local_params=True):
        assert not settings.get("validate_poutine") and settings.get("module_local_params")
        with pytest.raises(RuntimeError), settings.context(validate_infer=True):
            raise RuntimeError
        assert not settings.get("validate_infer")
    assert settings.get("validate_infer") and not settings.get("module_local_params")


def test_settings_errors():
    from brancher import settings

    with pytest.raises(KeyError, match=r"got 'validate_infr'; did you mean 'validate_infer'\?"):
        settings.set(validate_infr=True)
    with pytest.raises(TypeError, match="settings 'validate_infer': expected True or False, got 1"):
        settings.set(validate_infer=1)
    assert settings.get("validate_infer")


STEPS = 3


class Options:
    depth = 1


def test_settings_of_a_program():
    from brancher import settings

    @settings.register("steps", __name__, "STEPS")
    def check(value):
        if value < 1:
            raise ValueError("too few")

    settings.register("depth", __name__, "Options.depth")
    assert settings.get("steps") == 3 and settings.get()["depth"] == 1
    with settings.context(steps=5, depth=2):
        assert STEPS == 5 and Options.depth == 2
    assert STEPS == 3 and Options.depth == 1
    with pytest.raises(ValueError, match="too few"):
        settings.set(depth=7, steps=0)
    assert Options.depth == 1
    with pytest.raises(TypeError, match="'steps', which is there"):
        settings.register("steps", __name__, "Options.depth")
    with pytest.raises(TypeError, match="'validate_infer', which is there"):
        settings.register("validate_infer", __name__, "STEPS")
