"""Guides of discrete sites, against posteriors known in closed form."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import brancher.distributions as dist
from brancher import get_param_store, handlers, optim, plate, sample, subsample
from brancher.errors import GuideError
from brancher.infer import SVI, TraceEnum_ELBO, TraceGraph_ELBO
from brancher.infer.autoguide import AutoDiscreteParallel, AutoGuideList, AutoNormal
from brancher.symbolic import BernoulliVariable, NormalVariable, ProbabilisticModel

WEIGHTS = torch.tensor([0.2, 0.3, 0.5])
Y = torch.tensor([0.3, 1.4, 2.5, -1.0])


def mixture(y: torch.Tensor) -> None:
    with plate("row", 4):
        z = sample("z", dist.Categorical(WEIGHTS))
        sample("y", dist.Normal(z, 1.0), obs=y)
    b = sample("b", dist.Bernoulli(0.3))
    sample("x", dist.Normal(b, 1.0), obs=torch.tensor(0.8))
    h = sample("h", dist.OneHotCategorical(WEIGHTS))
    sample("w", dist.Normal((h * torch.arange(3.0)).sum(-1), 1.0), obs=torch.tensor(0.5))


def exact(y: torch.Tensor) -> torch.Tensor:
    return (dist.Normal(torch.arange(3.0), 1.0).log_prob(y.unsqueeze(-1)) + WEIGHTS.log()).softmax(-1)


def fitted(model: Any, *args: Any, steps: int = 300) -> AutoDiscreteParallel:
    guide = AutoDiscreteParallel(model)
    decay = optim.ClippedAdam({"lr": 0.1, "lrd": 0.01 ** (1 / steps)})
    SVI(model, guide, decay, TraceEnum_ELBO()).run(steps, *args, progress=False, compile=False)
    return guide


def test_it_holds_the_posterior_of_every_family() -> None:
    guide = fitted(mixture, Y)
    torch.testing.assert_close(guide.probs.z.detach(), exact(Y), rtol=0, atol=2e-3)
    torch.testing.assert_close(guide.probs.h.detach(), exact(torch.tensor(0.5)), rtol=0, atol=2e-3)
    odds = 0.3 / 0.7 * (dist.Normal(1.0, 1.0).log_prob(torch.tensor(0.8)) + 0.32 + 0.9189385).exp()
    assert guide.probs.b.item() == pytest.approx((odds / (1 + odds)).item(), abs=2e-3)


def test_values_are_all_there_at_once() -> None:
    guide = AutoDiscreteParallel(mixture)
    loss = TraceEnum_ELBO().loss(mixture, guide, Y)
    assert loss == TraceEnum_ELBO().loss(mixture, guide, Y)  # nothing is drawn
    assert {name: tuple(v.shape) for name, v in guide(Y).items()} == {"z": (4,), "b": (), "h": (3,)}


def test_rows_of_a_subsampled_plate_have_their_own() -> None:
    def model(y: torch.Tensor) -> None:
        with plate("row", 4, subsample_size=2):
            z = sample("z", dist.Categorical(WEIGHTS))
            sample("y", dist.Normal(z, 1.0), obs=subsample(y, event_dim=0))

    guide = fitted(model, Y, steps=800)
    torch.testing.assert_close(guide.probs.z.detach(), exact(Y), rtol=0, atol=0.02)
    trace = handlers.trace(guide).get_trace(Y)
    assert trace["z"].value.shape == (2,)
    torch.testing.assert_close(trace["z"].fn.probs, guide.probs.z[trace["row"].value])


def test_probabilities_begin_as_the_prior() -> None:
    def model() -> None:
        with plate("row", 3, subsample_size=2) as rows:
            sample("b", dist.Bernoulli(torch.tensor([0.2, 0.2, 0.2])[rows]))

    guide = AutoDiscreteParallel(model).setup()
    torch.testing.assert_close(guide.probs.b.detach(), torch.full((3,), 0.2), rtol=0, atol=1e-3)


def test_it_is_a_part_of_a_list() -> None:
    def model(y: torch.Tensor) -> None:
        loc = sample("loc", dist.Normal(0.0, 5.0))
        with plate("row", 4):
            z = sample("z", dist.Categorical(WEIGHTS))
            sample("y", dist.Normal(loc + z, 1.0), obs=y)

    guide = AutoGuideList(model)
    guide.append(AutoNormal(handlers.block(model, hide=["z"])))
    guide.append(AutoDiscreteParallel(handlers.block(model, expose=["z"])))
    svi = SVI(model, guide, optim.Adam({"lr": 0.1}), TraceEnum_ELBO())
    losses = [svi.step(Y) for _ in range(100)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert "AutoGuideList.1.probs.z" in get_param_store()
    assert set(guide.median(Y)) == {"loc"} and set(guide(Y)) == {"loc", "z"}


def test_without_enumeration_it_is_drawn_from() -> None:
    guide = AutoDiscreteParallel(mixture)
    svi = SVI(mixture, guide, optim.Adam({"lr": 0.05}), TraceGraph_ELBO())
    before = guide.setup(Y).probs.z.detach().clone()
    for _ in range(5):
        svi.step(Y)
    assert bool((guide.probs.z != before).any())


def test_compiled_steps_are_eager_ones() -> None:
    losses = []
    for compiled in (False, True):
        get_param_store().clear()
        svi = SVI(
            mixture,
            AutoDiscreteParallel(mixture),
            optim.Adam({"lr": 0.1}),
            TraceEnum_ELBO(),
            compile=compiled,
        )
        losses.append([svi.step(Y) for _ in range(5)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_copy_is_its_own() -> None:
    guide = AutoDiscreteParallel(mixture).setup(Y)
    twin = copy.deepcopy(guide)
    with torch.no_grad():
        next(iter(twin.parameters())).mul_(2.0)
    assert guide.probs.z[0, 0] != twin.probs.z[0, 0]


def test_algebraic_model() -> None:
    b = BernoulliVariable(probs=0.3, name="b")
    y = NormalVariable(b, 1.0, "y")
    y.observe(0.8)
    guide = fitted(ProbabilisticModel([y]))
    odds = 0.3 / 0.7 * torch.tensor(0.3).exp()
    assert guide.probs.b.reshape(()).item() == pytest.approx((odds / (1 + odds)).item(), abs=2e-3)


def test_continuous_site_error() -> None:
    with pytest.raises(
        GuideError, match=r"got Normal at site 'x'; hide it with handlers.block\(model, hide="
    ):
        AutoDiscreteParallel(lambda: sample("x", dist.Normal(0.0, 1.0)))()


def test_no_site_error() -> None:
    with pytest.raises(GuideError, match="expected a model with discrete sites"):
        AutoDiscreteParallel(lambda: None)()


def test_rows_that_the_model_chooses_error() -> None:
    def model() -> None:
        with plate("row", 4, subsample=torch.tensor([0, 2])):
            sample("b", dist.Bernoulli(0.3))

    with pytest.raises(GuideError, match="rows of plate 'row' that the guide can draw, got subsample="):
        AutoDiscreteParallel(model)()
