"""Every handler, as wrapper, decorator and context manager."""

from __future__ import annotations

import copy

import pytest
import torch

from brancher import deterministic, factor, handlers, param, plate, sample
from brancher import distributions as dist
from brancher.errors import (
    BrancherWarning,
    GuideError,
    HandlerError,
    HandlerTypeError,
    SiteError,
    SiteTypeError,
    UnknownNameError,
)
from brancher.handlers import Messenger, stack


def model(y=None):
    mu = sample("mu", dist.Normal(0.0, 1.0))
    return sample("y", dist.Normal(mu, 2.0), obs=torch.tensor(1.0) if y is None else y)


def test_trace_records_sites_in_order():
    trace = handlers.trace(model).get_trace()
    assert list(trace.nodes) == ["_INPUT", "mu", "y", "_RETURN"]
    assert trace.stochastic_nodes == ["mu"]
    assert trace.observation_nodes == ["y"]


def test_trace_log_prob_sum_is_the_joint_density():
    trace = handlers.trace(model).get_trace()
    mu = trace.nodes["mu"]["value"]
    expected = dist.Normal(0.0, 1.0).log_prob(mu) + dist.Normal(mu, 2.0).log_prob(torch.tensor(1.0))
    assert torch.allclose(trace.log_prob_sum(), expected)


def test_trace_as_context_manager_and_decorator_agree():
    with handlers.trace() as recorder:
        x = sample("x", dist.Normal(0.0, 1.0))
    assert recorder.trace.nodes["x"]["value"] is x

    @handlers.trace()
    def decorated():
        return sample("x", dist.Normal(0.0, 1.0))

    assert decorated.get_trace().stochastic_nodes == ["x"]
    assert decorated.__name__ == "decorated"


def test_trace_used_twice_in_nested_blocks_keeps_both_records():
    recorder = handlers.trace()
    with recorder as outer:
        sample("a", dist.Normal(0.0, 1.0))
        with recorder as inner:
            sample("b", dist.Normal(0.0, 1.0))
    assert list(outer.trace) == ["a", "b"]
    assert list(inner.trace) == ["b"]


def test_trace_two_sites_of_one_name_error():
    def twice():
        sample("x", dist.Normal(0.0, 1.0))
        sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(SiteError, match="site 'x'.*second one"):
        handlers.trace(twice).get_trace()
    assert stack.current() == ()


def test_trace_unknown_name_error_suggests_the_nearest():
    trace = handlers.trace(model).get_trace()
    with pytest.raises(UnknownNameError, match="did you mean 'mu'"):
        trace["mmu"]


def test_trace_copy_does_not_share_sites():
    trace = handlers.trace(model).get_trace()
    twin = trace.copy()
    twin.nodes["mu"]["value"] = torch.tensor(9.0)
    assert trace.nodes["mu"]["value"] != 9.0


def test_trace_site_reads_like_a_mapping():
    site = handlers.trace(model).get_trace().nodes["y"]
    assert site["is_observed"] and site["type"] == "sample" and site["cond_indep_stack"] == ()
    assert "log_prob" not in site
    with pytest.raises(KeyError):
        site["nothing"]


def test_trace_to_frame_has_a_row_a_site():
    def grouped():
        with plate("row", 3):
            sample("x", dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))

    frame = handlers.trace(grouped).get_trace().to_frame()
    assert frame.loc["x", ["distribution", "batch_shape", "event_shape", "plates"]].tolist() == [
        "Normal",
        (3,),
        (2,),
        "row",
    ]


def test_condition_observes_a_latent_site():
    trace = handlers.trace(handlers.condition(model, data={"mu": torch.tensor(3.0)})).get_trace()
    assert trace.nodes["mu"]["is_observed"] and trace.nodes["mu"]["value"] == 3.0


def test_condition_takes_the_latents_of_a_trace():
    first = handlers.trace(model).get_trace()
    second = handlers.trace(handlers.condition(model, data=first)).get_trace()
    assert second.nodes["mu"]["value"] is first.nodes["mu"]["value"]


def test_condition_converts_numbers_and_arrays():
    import numpy as np

    value = handlers.condition(lambda: sample("x", dist.Normal(0.0, 1.0)), data={"x": np.float64(2.0)})()
    assert value.dtype == torch.get_default_dtype()


def test_condition_unknown_name_warns_with_the_nearest():
    with pytest.warns(BrancherWarning, match="condition 'mmu'.*did you mean 'mu'"):
        handlers.condition(model, data={"mmu": torch.tensor(0.0)})()


def test_condition_on_an_observed_site_warns():
    with pytest.warns(BrancherWarning, match="site 'y' to be latent"):
        handlers.condition(model, data={"y": torch.tensor(0.0)})()


def test_condition_list_of_text_error():
    with pytest.raises(SiteTypeError, match="site 'mu'.*list of str"):
        handlers.condition(model, data={"mu": ["a"]})()


def test_condition_without_data_error():
    with pytest.raises(HandlerTypeError, match="condition: expected data"):
        handlers.condition(model)


def test_uncondition_draws_observed_sites():
    trace = handlers.trace(handlers.uncondition(model)).get_trace()
    assert trace.stochastic_nodes == ["mu", "y"]
    assert trace.nodes["y"]["infer"]["obs"] == 1.0


def test_replay_repeats_the_draws():
    first = handlers.trace(model).get_trace()
    second = handlers.trace(handlers.replay(model, trace=first)).get_trace()
    assert second.nodes["mu"]["value"] is first.nodes["mu"]["value"]
    assert not second.nodes["mu"]["is_observed"]


def test_replay_of_a_site_observed_in_the_trace_error():
    guide = handlers.trace(lambda: sample("mu", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))).get_trace()
    with pytest.raises(GuideError, match="site 'mu'.*an observed one"):
        handlers.replay(model, trace=guide)()


def test_replay_gives_subsampled_plates_the_same_rows():
    def rows():
        with plate("row", 100, subsample_size=5) as index:
            return index

    first = handlers.trace(rows).get_trace()
    assert torch.equal(handlers.replay(rows, trace=first)(), first.nodes["_RETURN"]["value"])


def test_substitute_sets_parameters_and_latents_without_observing():
    def both():
        return param("a", torch.tensor(1.0)) + sample("x", dist.Normal(0.0, 1.0))

    wrapped = handlers.substitute(both, data={"a": torch.tensor(2.0), "x": torch.tensor(5.0)})
    trace = handlers.trace(wrapped).get_trace()
    assert trace.nodes["_RETURN"]["value"] == 7.0
    assert not trace.nodes["x"]["is_observed"]


def test_substitute_asks_a_function():
    wrapped = handlers.substitute(
        model, substitute_fn=lambda site: torch.tensor(4.0) if site.name == "mu" else None
    )
    assert handlers.trace(wrapped).get_trace().nodes["mu"]["value"] == 4.0


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, []),
        ({"hide": ["mu"]}, ["y"]),
        ({"expose": ["mu"]}, ["mu"]),
        ({"hide_types": ["sample"]}, ["y"]),
        ({"hide_types": ["observe"]}, ["mu"]),
        ({"hide_types": ["sample", "observe"]}, []),
        ({"expose_types": ["sample"]}, ["mu"]),
        ({"hide_fn": lambda site: site.is_observed}, ["mu"]),
        ({"expose_fn": lambda site: site.is_observed}, ["y"]),
        ({"expose_all": True}, ["mu", "y"]),
    ],
)
def test_block_hides_what_it_is_told(options, seen):
    assert handlers.trace(handlers.block(model, **options)).get_trace().names() == seen


def test_block_both_sides_error():
    with pytest.raises(HandlerError, match="got both"):
        handlers.block(model, hide=["a"], expose=["b"])


def test_block_unknown_name_warns():
    with pytest.warns(BrancherWarning, match="block 'nu'"):
        handlers.block(model, hide=["nu"])()


def test_scale_multiplies_and_nests():
    plain = handlers.trace(handlers.condition(model, data={"mu": torch.tensor(0.5)}))
    scaled = handlers.scale(plain.fn, scale=3.0)
    with handlers.scale(scale=2.0):
        value = handlers.trace(scaled).get_trace().log_prob_sum()
    # The outer scale lies outside the trace, which still records the product.
    assert torch.allclose(value, 6.0 * plain.get_trace().log_prob_sum())


@pytest.mark.parametrize("factor_", [0.0, -1.0, float("nan")])
def test_scale_not_positive_error(factor_):
    with pytest.raises(HandlerError, match="scale: expected a factor > 0"):
        handlers.scale(model, scale=factor_)


def test_mask_leaves_entries_out():
    def three():
        sample("x", dist.Normal(torch.zeros(3), 1.0), obs=torch.tensor([0.0, float("nan"), 0.0]))

    keep = torch.tensor([True, False, True])
    trace = handlers.trace(handlers.mask(three, mask=keep)).get_trace()
    assert torch.allclose(trace.log_prob_sum(), 2 * dist.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)))


def test_mask_keeps_nan_out_of_gradients():
    loc = torch.zeros(3, requires_grad=True)

    def three():
        sample("x", dist.Normal(loc, 1.0), obs=torch.tensor([1.0, float("nan"), 2.0]))

    keep = torch.tensor([True, False, True])
    handlers.trace(handlers.mask(three, mask=keep)).get_trace().log_prob_sum().backward()
    assert torch.equal(loc.grad, torch.tensor([1.0, 0.0, 2.0]))


def test_mask_of_numbers_error():
    with pytest.raises(HandlerTypeError, match="mask: expected a bool"):
        handlers.mask(model, mask=torch.ones(3))


def test_seed_fixes_draws_and_restores_the_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = handlers.seed(model, rng_seed=3)()
    assert torch.equal(torch.rand(1), expected)
    assert handlers.seed(model, rng_seed=3)() == first


def test_do_cuts_a_site_from_its_parents():
    def chain():
        a = sample("a", dist.Normal(0.0, 1.0))
        b = sample("b", dist.Normal(a, 1.0))
        return sample("c", dist.Normal(b, 1e-6))

    trace = handlers.trace(handlers.do(chain, data={"b": torch.tensor(50.0)})).get_trace()
    assert abs(trace.nodes["c"]["value"] - 50.0) < 1e-3
    assert not trace.nodes["b"]["is_observed"] and trace.nodes["b"]["value"] < 40.0


def test_do_unknown_name_warns():
    with pytest.warns(BrancherWarning, match="do 'muu'.*did you mean 'mu'"):
        handlers.do(model, data={"muu": torch.tensor(0.0)})()


def test_lift_makes_parameters_random():
    def learn():
        return param("a", torch.tensor(0.0))

    trace = handlers.trace(handlers.lift(learn, prior=dist.Normal(100.0, 1.0))).get_trace()
    assert trace.stochastic_nodes == ["a"] and trace.nodes["a"]["value"] > 50.0


def test_infer_config_updates_options():
    marked = handlers.infer_config(model, config_fn=lambda site: {"mark": site.name})
    assert handlers.trace(marked).get_trace().nodes["mu"]["infer"]["mark"] == "mu"


def test_reparam_replaces_distribution_and_value():
    class Shift:
        def apply(self, message):
            base = sample("mu_base", dist.Normal(0.0, 1.0))
            return {"fn": None, "value": base + 10.0, "is_observed": True}

    trace = handlers.trace(handlers.reparam(model, config={"mu": Shift()})).get_trace()
    assert trace.stochastic_nodes == ["mu_base"]
    assert trace.nodes["mu"]["type"] == "deterministic"
    assert torch.equal(trace.nodes["mu"]["value"], trace.nodes["mu_base"]["value"] + 10.0)


def test_reparam_unknown_name_warns():
    with pytest.warns(BrancherWarning, match="reparam 'nu'"):
        handlers.reparam(model, config={"nu": object()})()


def test_broadcast_expands_over_frames():
    class Put(Messenger):
        def process_message(self, message):
            message.frames = (handlers.Frame("p", -1, 4, 4),)

    with handlers.broadcast(), Put():
        assert sample("x", dist.Normal(0.0, 1.0)).shape == (4,)


def test_handler_wraps_methods():
    class Thing:
        @handlers.seed(rng_seed=1)
        def draw(self):
            return sample("x", dist.Normal(0.0, 1.0))

    assert Thing().draw() == Thing().draw()


def test_handler_is_reentrant():
    double = handlers.scale(scale=2.0)
    with double, double:
        trace = handlers.trace(model).get_trace()
    assert trace.nodes["mu"]["scale"] == 4.0
    assert stack.current() == ()


def test_handler_around_no_function_error():
    with pytest.raises(HandlerTypeError, match="expected a function"):
        handlers.seed("model", rng_seed=0)


def test_handler_objects_can_be_copied():
    wrapped = copy.deepcopy(handlers.condition(model, data={"mu": torch.tensor(1.0)}))
    assert handlers.trace(wrapped).get_trace().nodes["mu"]["value"] == 1.0


def test_messengers_own_exception_leaves_a_clean_stack():
    class Broken(Messenger):
        def process_message(self, message):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"), Broken():
        sample("x", dist.Normal(0.0, 1.0))
    assert stack.current() == ()


def test_factor_and_deterministic_have_their_own_types():
    def both():
        deterministic("d", 2.0)
        factor("f", torch.tensor(-1.5))

    trace = handlers.trace(both).get_trace()
    assert [site.type for site in trace.sites()] == ["deterministic", "factor"]
    assert trace.log_prob_sum() == -1.5
