"""What writers of guides import: nested attributes, and checks of sites."""

from __future__ import annotations

import pytest
import torch
from brancher.infer.autoguide.guides import deep_getattr, deep_setattr, prototype_hide_fn
from brancher.infer.autoguide.utils import helpful_support_errors
from brancher.util import check_model_guide_match

import brancher.distributions as dist
from brancher import handlers, sample
from brancher.errors import GuideError
from brancher.nn import PyroModule, PyroParam


def model() -> None:
    x = sample("x", dist.Normal(0.0, 1.0))
    sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))


def test_nested_attributes_are_made_on_the_way() -> None:
    module = PyroModule()
    deep_setattr(module, "locs.a", torch.nn.Parameter(torch.zeros(2)))
    deep_setattr(module, "locs.b", PyroParam(torch.ones(()), constraint=dist.constraints.positive))
    assert sorted(name for name, _ in module.named_parameters()) == ["locs.a", "locs.b"]
    assert float(deep_getattr(module, "locs.b").detach()) == 1.0


def test_a_prototype_shows_latent_sites_alone() -> None:
    shown = handlers.trace(handlers.block(model, hide_fn=prototype_hide_fn)).get_trace()
    assert [name for name in shown.nodes if not name.startswith("_")] == ["x"]


def test_a_law_without_support_is_named() -> None:
    class Odd(dist.TorchDistribution):
        def sample(self, sample_shape=()):  # type: ignore[no-untyped-def]
            return torch.zeros(())

        def log_prob(self, value):  # type: ignore[no-untyped-def]
            return value

    site = handlers.trace(lambda: sample("odd", Odd())).get_trace()["odd"]
    with (
        pytest.raises(GuideError, match="site 'odd': expected a law with a support, got Odd without one"),
        helpful_support_errors(site),
    ):
        site.fn.support  # noqa: B018


def test_traces_that_do_not_match_error() -> None:
    of_model, of_guide = handlers.trace(model).get_trace(), handlers.trace(lambda: None).get_trace()
    with pytest.raises(GuideError, match=r"expected latent sites \['x'\], got \[\]"):
        check_model_guide_match(of_model, of_guide)
