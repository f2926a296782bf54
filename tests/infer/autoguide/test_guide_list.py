from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import brancher.distributions as dist
from brancher import get_param_store, handlers, param, plate, sample, subsample
from brancher.errors import GuideError
from brancher.handlers import block
from brancher.infer import SVI, Trace_ELBO
from brancher.infer.autoguide import AutoCallable, AutoDelta, AutoDiagonalNormal, AutoGuideList, AutoNormal
from brancher.optim import Adam


def model(y: torch.Tensor) -> None:
    mu = sample("mu", dist.Normal(0.0, 1.0))
    tau = sample("tau", dist.Gamma(2.0, 1.0))
    with plate("row", 6, subsample_size=3):
        z = sample("z", dist.Normal(mu, tau))
        w = sample("w", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(z + w, 1.0), obs=subsample(y, event_dim=0))


Y = torch.arange(6.0)


def make() -> AutoGuideList:
    guide = AutoGuideList(model)
    guide.append(AutoDelta(block(model, expose=["tau"])))
    guide.append(AutoDiagonalNormal(block(model, expose=["mu", "z"])))
    guide.append(AutoNormal(block(model, expose=["w"])))
    return guide


def test_parts_cover_the_model() -> None:
    loss = Trace_ELBO(4, vectorize_particles=True).differentiable_loss(model, make(), Y)
    assert torch.isfinite(loss)


def test_parts_share_the_rows_of_a_plate() -> None:
    trace = handlers.trace(make()).get_trace(Y)
    assert trace["z"].value.shape == trace["w"].value.shape == (3,)
    assert trace["row"].value.shape == (3,)


def test_names_go_through_the_list() -> None:
    guide = make().setup(Y)
    assert set(get_param_store().keys()) == {
        "AutoGuideList.0.tau",
        "AutoGuideList.1.loc",
        "AutoGuideList.1.scale",
        "AutoGuideList.2.locs.w",
        "AutoGuideList.2.scales.w",
    }
    assert guide[2].scales.w.shape == (6,)


def test_every_parameter_is_trained() -> None:
    guide = make()
    before = {name: p.detach().clone() for name, p in guide.setup(Y).named_parameters()}
    svi = SVI(model, guide, Adam({"lr": 0.1}))
    for _ in range(5):
        svi.step(Y)
    assert all(not torch.equal(p, before[name]) for name, p in guide.named_parameters())


def test_functions_are_parts() -> None:
    def by_hand(y: torch.Tensor) -> None:
        with plate("row", 6, subsample_size=3):
            sample("w", dist.Normal(param("w_loc", torch.tensor(0.0)), 1.0))

    guide = AutoGuideList(model)
    guide.append(by_hand)
    guide.append(AutoNormal(block(model, hide=["w"])))
    assert torch.isfinite(Trace_ELBO().differentiable_loss(model, guide, Y))


def test_medians_of_parts_are_joined() -> None:
    guide = AutoGuideList(model)
    guide.append(AutoCallable(model, lambda y: {}, lambda y: {"w": torch.tensor(7.0)}))
    guide.append(AutoNormal(block(model, hide=["w"])))
    median = guide.median(Y)
    assert set(median) == {"mu", "tau", "z", "w"}
    assert median["w"] == 7.0


def test_posterior_draws_of_parts_are_joined() -> None:
    draws = make().sample_posterior(4, Y)
    assert {name: tuple(v.shape) for name, v in draws.items()} == {
        "tau": (4,),
        "mu": (4,),
        "z": (4, 3),
        "w": (4, 3),
    }


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda guide: pickle.loads(pickle.dumps(guide))], ids=["copy", "pickle"]
)
def test_copies_keep_values(how: Any) -> None:
    guide = make().setup(Y)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter += 0.3
    for a, b in zip(guide.parameters(), how(guide).parameters(), strict=True):
        assert torch.equal(a, b)
        assert a is not b


def bounded() -> None:
    a = sample("a", dist.Gamma(2.0, 1.0))
    sample("b", dist.Uniform(0.0, a))


def test_support_that_depends_on_an_earlier_part_is_seen() -> None:
    guide = AutoGuideList(bounded)
    guide.append(AutoNormal(block(bounded, expose=["a"]), init_scale=1.0))
    guide.append(AutoNormal(block(bounded, expose=["b"]), init_scale=1.0))
    for _ in range(20):
        values = guide()
        assert values["b"] <= values["a"]


def test_support_that_depends_on_a_later_part_error() -> None:
    guide = AutoGuideList(bounded)
    guide.append(AutoNormal(block(bounded, expose=["b"])))
    guide.append(AutoNormal(block(bounded, expose=["a"])))
    with pytest.raises(GuideError, match="site 'a' to be drawn before the supports of"):
        guide()


def test_empty_list_error() -> None:
    with pytest.raises(GuideError, match="at least one part"):
        AutoGuideList(model)(Y)


def test_part_of_two_lists_error() -> None:
    part = AutoNormal(model)
    AutoGuideList(model).append(part)
    with pytest.raises(GuideError, match="part of another"):
        AutoGuideList(model).append(part)


def test_parts_may_be_attributes() -> None:
    guide = AutoGuideList(model)
    guide.append(AutoDelta(block(model, expose=["tau"])))
    guide.rest = AutoNormal(block(model, expose=["mu", "z", "w"]))
    guide.setup(Y)
    assert guide.rest is guide[1]
    assert {"AutoGuideList.0.tau", "AutoGuideList.rest.locs.mu"} < set(get_param_store().keys())
    assert set(guide(Y)) == {"tau", "mu", "z", "w"}


def test_a_part_of_another_guide_is_no_attribute_error() -> None:
    guide = make()
    with pytest.raises(GuideError, match="a guide of its own, got a part of another one"):
        AutoGuideList(model).first = guide[0]


def test_plates_may_be_chosen_for_all_parts() -> None:
    rows = torch.tensor([4, 1, 5])
    guide = AutoGuideList(model, create_plates=lambda y: plate("row", 6, subsample=rows))
    guide.append(AutoNormal(block(model, expose=["tau", "mu", "z"])))
    guide.append(AutoDelta(block(model, expose=["w"])))
    trace = handlers.trace(guide).get_trace(Y)
    assert torch.equal(trace["row"].value, rows)
    torch.testing.assert_close(trace["z"].fn.mean, guide[0].locs.z[rows])
    twin = pickle.loads(pickle.dumps(guide))
    assert twin.create_plates is None and guide.create_plates is not None
