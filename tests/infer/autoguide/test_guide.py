"""What automatic guides do with plates, masks, moving supports and bad models."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
import torch

import brancher.distributions as dist
from brancher import get_param_store, handlers, optim, param, plate, sample, subsample
from brancher.errors import BrancherWarning, GuideError, InferenceError, PlateError
from brancher.infer import (
    SVI,
    Trace_ELBO,
    TraceMeanField_ELBO,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from brancher.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from brancher.params import ParamStore


def plain() -> torch.Tensor:
    return sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def positive() -> torch.Tensor:
    return sample("x", dist.Gamma(torch.full((2,), 4.0), 2.0).to_event(1))


# Bad models


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta, AutoMultivariateNormal])
def test_discrete_latent_error(kind: Any) -> None:
    with pytest.raises(GuideError, match="site 'k' with the discrete Bernoulli"):
        kind(lambda: sample("k", dist.Bernoulli(0.5)))()


def test_enumerated_site_is_left_out() -> None:
    def model() -> None:
        sample("k", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        sample("x", dist.Normal(0.0, 1.0))

    assert set(AutoNormal(model)()) == {"x"}


def test_no_latent_error() -> None:
    with pytest.raises(InferenceError, match="no latent sites"):
        AutoNormal(lambda: sample("y", dist.Normal(0.0, 1.0), obs=1.0))()


@pytest.mark.parametrize("num_particles", [1, 3])
def test_forgotten_data_warn_once(num_particles: int) -> None:
    def model(y: Any = None) -> None:
        sample("y", dist.Normal(sample("mu", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    guide, elbo = AutoNormal(model), Trace_ELBO(num_particles)
    with pytest.warns(BrancherWarning, match="site 'y', got obs=None") as caught:
        elbo.loss(model, guide)
        elbo.loss(model, guide)
    assert len(caught) == 1


def test_model_that_is_no_function_error() -> None:
    with pytest.raises(GuideError, match="expected the model as a function, got Tensor"):
        AutoNormal(torch.zeros(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), "wide"])
def test_init_scale_error(scale: Any) -> None:
    with pytest.raises(GuideError, match="init_scale as a number > 0"):
        AutoNormal(plain, init_scale=scale)


def test_setup_that_fails_leaves_nothing() -> None:
    guide = AutoNormal(lambda: sample("k", dist.Bernoulli(0.5)))
    with pytest.raises(GuideError):
        guide()
    assert list(guide.parameters()) == []
    assert len(get_param_store()) == 0


def test_iterated_subsample_error() -> None:
    def model() -> None:
        for i in plate("row", 5, subsample_size=2):
            sample(f"x_{i}", dist.Normal(0.0, 1.0))

    with pytest.raises(PlateError, match="plate 'row': expected a vectorized plate"):
        AutoNormal(model)()


# First values


@pytest.mark.parametrize(
    "init, expected, tolerance",
    [
        (init_to_mean, 2.0, 1e-4),
        (init_to_value(values={"x": torch.tensor([3.0, 3.0])}), 3.0, 1e-4),
        (init_to_median(num_samples=5001), 1.836, 0.1),  # standard error 0.02
        (init_to_generated(generate=lambda: init_to_value(values={"x": torch.full((2,), 5.0)})), 5.0, 1e-4),
    ],
)
def test_first_values(init: Any, expected: float, tolerance: float) -> None:
    median = AutoNormal(positive, init_loc_fn=init).median()["x"].detach()
    torch.testing.assert_close(median, torch.full((2,), expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("init", [init_to_sample, init_to_uniform(radius=0.5)])
def test_random_first_values_lie_in_the_support(init: Any) -> None:
    assert (AutoNormal(positive, init_loc_fn=init).median()["x"] > 0).all()


def test_first_value_outside_the_support_error() -> None:
    with pytest.raises(GuideError, match="site 'x': expected an initial value inside its support"):
        AutoNormal(positive, init_loc_fn=init_to_value(values={"x": torch.tensor([1.0, -1.0])}))()


def test_first_value_of_another_shape_error() -> None:
    with pytest.raises(GuideError, match=r"site 'x': expected an initial value of shape \(2,\), got \(3,\)"):
        AutoNormal(positive, init_loc_fn=init_to_value(values={"x": torch.ones(3)}))()


def test_first_value_without_fallback_error() -> None:
    with pytest.raises(GuideError, match="site 'x': expected an initial value from init_to_value"):
        AutoNormal(positive, init_loc_fn=init_to_value(values={}, fallback=None))()


# Plates


def rows(data: torch.Tensor, given: Any = None) -> None:
    size = None if given is not None else 3
    with plate("row", len(data), subsample_size=size, subsample=given):
        z = sample("z", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(z, 1.0), obs=subsample(data, event_dim=0))


def test_subsampled_guide_has_parameters_for_all_rows() -> None:
    start = torch.arange(8.0)
    guide = AutoNormal(rows, init_loc_fn=init_to_value(values={"z": start}), init_scale=1e-6)
    trace = handlers.trace(guide).get_trace(torch.zeros(8))
    torch.testing.assert_close(trace["z"].value.detach(), trace["row"].value.float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(guide.locs.z.detach(), start)


def test_model_follows_the_guides_rows() -> None:
    data = torch.zeros(8)
    guide = AutoNormal(rows)
    guide_trace = handlers.trace(guide).get_trace(data)
    model_trace = handlers.trace(handlers.replay(rows, guide_trace)).get_trace(data)
    assert torch.equal(model_trace["row"].value, guide_trace["row"].value)


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta, AutoMultivariateNormal])
def test_rows_that_the_model_gives_win(kind: Any) -> None:
    start, given = torch.arange(8.0), torch.tensor([6, 2])
    guide = kind(rows, init_loc_fn=init_to_value(values={"z": start}))
    guide.setup(torch.zeros(8), given)
    with torch.no_grad():
        guide(torch.zeros(8), given)
        for latest in (given, torch.tensor([1, 7, 3])):
            values = torch.stack([guide(torch.zeros(8), latest)["z"] for _ in range(400)])
            # 400 draws of standard deviation 0.1 around the rows' own starts: 20 standard errors.
            torch.testing.assert_close(
                values.mean(0), guide.median(torch.zeros(8), latest)["z"][latest], atol=0.1, rtol=0
            )


def test_rows_given_only_later_win_as_well() -> None:
    data = torch.zeros(8)
    guide = AutoNormal(rows).setup(data)
    loss = Trace_ELBO()(rows, guide)
    assert guide(data)["z"].shape == (3,)
    assert torch.isfinite(loss(data, torch.tensor([5, 0])))
    assert guide(data, torch.tensor([5, 0]))["z"].shape == (2,)


def test_plates_that_the_user_makes_are_taken() -> None:
    data, chosen = torch.zeros(8), torch.tensor([4, 4])
    guide = AutoNormal(rows, create_plates=lambda data: plate("row", 8, subsample=chosen))
    trace = handlers.trace(guide).get_trace(data)
    assert trace["z"].value.shape == (2,)
    assert torch.equal(trace["row"].value, chosen)


def test_gradients_reach_only_the_rows_present() -> None:
    data, given = torch.ones(8), torch.tensor([5, 1])
    guide = AutoNormal(rows).setup(data, given)
    Trace_ELBO().differentiable_loss(rows, guide, data, given).backward()
    reached = guide.all_places()["locs.z"].leaf.grad.nonzero().flatten()
    assert set(reached.tolist()) == {1, 5}


def test_guide_inside_a_plate_of_its_own_dimension_error() -> None:
    guide = AutoNormal(rows).setup(torch.zeros(8))
    with pytest.raises(PlateError, match="plates around it left of dim -1"), plate("outer", 2, dim=-1):
        guide(torch.zeros(8))


# Supports that depend on the call


def bounded(top: torch.Tensor) -> None:
    a = sample("a", dist.Uniform(0.0, top))
    sample("b", dist.Uniform(0.0, a))


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta, AutoMultivariateNormal])
def test_moving_supports_are_never_left(kind: Any) -> None:
    guide = kind(bounded)
    for top in (1.0, 100.0, 0.01):
        draws = guide.sample_posterior(50, torch.tensor(top))
        assert (draws["a"] < top).all()
        assert (draws["b"] <= draws["a"]).all()


def test_density_on_a_moving_support_is_right() -> None:
    guide = AutoNormal(bounded, init_scale=1.0)
    trace = handlers.trace(guide).get_trace(torch.tensor(2.0))
    a, b = trace["a"].value, trace["b"].value
    u = (b / a).logit()
    loc, scale = guide.locs.b, guide.scales.b
    expected = dist.Normal(loc, scale).log_prob(u) - (a * u.sigmoid() * (1 - u.sigmoid())).log()
    trace.compute_log_prob()
    torch.testing.assert_close(trace["b"].log_prob, expected)


def test_replayed_guide_scores_values_that_are_not_its_own() -> None:
    guide = AutoNormal(bounded, init_scale=1.0)
    top = torch.tensor(2.0)
    fixed = {"a": torch.tensor(1.5), "b": torch.tensor(0.2)}
    first, second = (
        handlers.trace(handlers.substitute(guide, data=fixed)).get_trace(top).log_prob_sum() for _ in range(2)
    )
    torch.testing.assert_close(first, second)


# Masks


def test_moments_are_found_under_pyro_name() -> None:
    guide = AutoMultivariateNormal(
        lambda: sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1)), init_to_mean, init_scale=0.3
    ).setup()
    loc, scale = guide._loc_scale()
    torch.testing.assert_close(loc.detach(), torch.zeros(3))
    torch.testing.assert_close(scale.detach(), torch.full((3,), 0.3))


@pytest.mark.parametrize("kind", [AutoNormal, AutoDelta, AutoMultivariateNormal])
def test_mask_of_entries_under_an_event_is_taken(kind: Any) -> None:
    some = torch.tensor([True, False])
    guide = kind(lambda: sample("x", dist.Normal(0.0, 1.0).expand([2]).mask(some).to_event(1)))
    elbo = Trace_ELBO(max_plate_nesting=0)
    assert torch.isfinite(torch.tensor(elbo.loss(guide.model, guide)))
    assert guide()["x"].shape == (2,)


@pytest.mark.parametrize("kind", [AutoNormal, AutoMultivariateNormal])
def test_entries_that_do_not_count_leave_the_loss_bounded(kind: Any) -> None:
    seen = torch.tensor([True, False, True])

    def model() -> None:
        with plate("row", 3):
            sample("y", dist.Normal(0.0, 1.0), obs=torch.ones(3), obs_mask=seen)
            with handlers.mask(mask=seen):
                sample("z", dist.Normal(0.0, 1.0))

    guide = kind(model)
    elbo = Trace_ELBO(200, vectorize_particles=True)
    guide.setup()
    optimizer = torch.optim.Adam(guide.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        elbo.differentiable_loss(model, guide).backward()
        optimizer.step()
    exact = -2 * float(dist.Normal(0.0, 1.0).log_prob(torch.tensor(1.0)))
    assert elbo.loss(model, guide) == pytest.approx(exact, abs=0.1)


# Names, stores, families


def test_scales_are_read_constrained() -> None:
    guide = AutoNormal(positive, init_scale=0.25).setup()
    torch.testing.assert_close(get_param_store()["AutoNormal.scales.x"].detach(), torch.full((2,), 0.25))
    torch.testing.assert_close(guide.scales.x.detach(), torch.full((2,), 0.25))


def test_values_written_through_the_store_arrive() -> None:
    guide = AutoNormal(positive).setup()
    get_param_store()["AutoNormal.scales.x"] = torch.tensor([0.5, 2.0])
    torch.testing.assert_close(guide.scales.x.detach(), torch.tensor([0.5, 2.0]))


def test_point_is_read_on_its_support() -> None:
    AutoDelta(positive, init_loc_fn=init_to_mean).setup()
    torch.testing.assert_close(get_param_store()["AutoDelta.x"].detach(), torch.full((2,), 2.0))


def test_two_guides_have_two_names() -> None:
    first, second = AutoNormal(plain).setup(), AutoNormal(positive).setup()
    first(), second(), first()
    assert set(get_param_store().keys()) == {
        f"AutoNormal{i}.{kind}.x" for i in ("", "_1") for kind in ("locs", "scales")
    }


def test_name_of_a_guide_that_is_gone_is_free() -> None:
    AutoNormal(plain).setup()
    gc.collect()
    guide = AutoNormal(positive).setup()
    assert get_param_store()["AutoNormal.scales.x"].grad_fn is not None
    assert get_param_store().leaf("AutoNormal.locs.x") is guide.all_places()["locs.x"].leaf


def test_checkpoint_of_the_second_guide_of_a_store_is_its_own(tmp_path: Any) -> None:
    def model() -> None:
        sample("y", dist.Normal(sample("x", dist.Normal(0.0, 1.0)), 1.0), obs=torch.tensor(3.0))

    def make() -> SVI:
        return SVI(model, AutoNormal(model), optim.Adam({"lr": 0.1}))

    other, svi = make(), make()
    other.step()
    for _ in range(5):
        svi.step()
    svi.save(tmp_path / "svi")
    expected = [svi.step() for _ in range(3)]
    with ParamStore():
        again = make()
        again.load(tmp_path / "svi")
        assert [again.step() for _ in range(3)] == expected


@pytest.mark.usefixtures("recorded")
def test_older_guide_that_goes_in_mid_step_takes_no_gradient_with_it() -> None:
    def model() -> None:
        x = sample("x", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(x, 1.0), obs=torch.tensor(3.0))

    def losses(compile: bool) -> list[float]:
        older, own = (
            [AutoNormal(plain, prefix=f"q{compile}").setup()],
            AutoNormal(model, prefix=f"q{compile}"),
        )

        def guide() -> Any:
            if svi.steps == 1:
                older.clear()
                gc.collect()
            return own()

        torch.manual_seed(0)
        svi = SVI(model, guide, optim.Adam({"lr": 0.1}), compile=compile)
        return [svi.step() for _ in range(4)]

    assert losses(True) == pytest.approx(losses(False), rel=1e-5)


@pytest.mark.parametrize("name", ["training", "layer.weight", "a b", "x/y", "forward"])
def test_any_site_name_will_do(name: str) -> None:
    def model() -> None:
        sample(name, dist.Gamma(2.0, 1.0))

    first, second = AutoNormal(model).setup(), AutoNormal(model).setup()
    second.load_state_dict(first.state_dict())
    assert set(second()) == {name}


def test_prefix_is_the_first_part_of_every_name() -> None:
    AutoNormal(plain, prefix="q").setup()
    assert set(get_param_store().keys()) == {"q.locs.x", "q.scales.x"}


def test_saved_state_is_taken_up_by_a_guide_that_comes_later(tmp_path: Any) -> None:
    guide = AutoNormal(positive, init_scale=0.7).setup()
    get_param_store().save(tmp_path / "params")
    with ParamStore() as store:
        store.load(tmp_path / "params")
        fresh = AutoNormal(positive).setup()
        torch.testing.assert_close(fresh.scales.x, guide.scales.x)


def test_analytic_divergence_is_found() -> None:
    guide = AutoNormal(plain, init_scale=0.5)
    expected = 2 * float(dist.kl_divergence(dist.Normal(0.0, 0.5), dist.Normal(0.0, 1.0)))
    assert TraceMeanField_ELBO().loss(plain, guide) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [AutoNormal, AutoMultivariateNormal])
def test_quantiles_increase_on_every_support(kind: Any) -> None:
    def model() -> None:
        sample("up", dist.Gamma(2.0, 1.0))
        sample("down", dist.ImproperUniform(dist.constraints.less_than(3.0)))

    found = kind(model).quantiles([0.1, 0.5, 0.9])
    for values in found.values():
        assert (values[1:] > values[:-1]).all()


@pytest.mark.parametrize("probability", [0.0, 1.0, [0.5, 2.0]])
def test_quantiles_outside_their_range_error(probability: Any) -> None:
    with pytest.raises(GuideError, match=r"probabilities in \(0, 1\)"):
        AutoNormal(plain).quantiles(probability)


@pytest.mark.parametrize("number", [0, -1, 2.5, True])
def test_num_samples_error(number: Any) -> None:
    with pytest.raises(InferenceError, match="num_samples as an int > 0"):
        AutoNormal(plain).sample_posterior(number)


def test_a_pickled_local_model_is_asked_for_when_needed() -> None:
    import pickle

    guide = AutoNormal(lambda top: bounded(top)).setup(torch.tensor(1.0))
    twin = pickle.loads(pickle.dumps(guide))
    with pytest.raises(GuideError, match="pickled without it"):
        twin(torch.tensor(1.0))
    twin.model = bounded
    assert set(twin(torch.tensor(1.0))) == {"a", "b"}


def test_steps_do_not_look_at_a_plain_model_again() -> None:
    runs = []

    def model() -> None:
        runs.append(1)
        sample("x", dist.Normal(0.0, 1.0))

    guide = AutoNormal(model)
    svi = SVI(model, guide)
    svi.step()
    before = len(runs)
    for _ in range(5):
        svi.step()
    assert len(runs) - before == 5


def test_one_step_can_be_traced() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    from brancher import validation_enabled

    def model(y: torch.Tensor) -> None:
        tau = sample("tau", dist.Gamma(2.0, 1.0))
        with plate("row", 4):
            z = sample("z", dist.Normal(0.0, tau))
            sample("y", dist.Normal(z, 1.0), obs=y)

    y = torch.ones(4)
    guide = AutoNormal(model).setup(y)
    elbo, store = Trace_ELBO(), get_param_store()
    elbo.loss(model, guide, y)
    names, leaves = zip(*store.unconstrained().items(), strict=True)

    def loss(tensors: tuple[torch.Tensor, ...], y: torch.Tensor) -> torch.Tensor:
        with store.substituted(dict(zip(names, tensors, strict=True))), validation_enabled(False):
            return elbo.differentiable_loss(model, guide, y)

    graph = make_fx(loss)(leaves, y)
    torch.manual_seed(2)
    expected = loss(leaves, y)
    torch.manual_seed(2)
    torch.testing.assert_close(graph(leaves, y), expected)


def test_no_warning_on_the_way() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoNormal(bounded)(torch.tensor(1.0))


def test_delta_guide_of_a_model_with_parameters_alone_is_maximum_likelihood() -> None:
    data = torch.tensor([1.0, 2.0, 6.0])

    def model() -> None:
        with plate("row", 3):
            sample("y", dist.Normal(param("loc", torch.tensor(0.0)), 1.0), obs=data)

    guide = AutoDelta(model)
    svi = SVI(model, guide, optim.SGD({"lr": 0.1}))
    for _ in range(60):
        svi.step()
    assert guide() == {} and float(get_param_store()["loc"].detach()) == pytest.approx(3.0, abs=1e-3)


def test_parameters_are_shown_constrained() -> None:
    guide = AutoNormal(lambda: sample("x", dist.Normal(0.0, 1.0)), init_scale=0.5).setup()
    shown = dict(guide.named_pyro_params(prefix="guide"))
    assert list(shown) == ["guide.locs.x", "guide.scales.x"]
    assert shown["guide.scales.x"].item() == pytest.approx(0.5)
