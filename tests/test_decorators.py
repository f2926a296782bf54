from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch

import brancher
from brancher import distributions as dist
from brancher import handlers, param, plate, sample
from brancher.decorators import Model, guide, model
from brancher.errors import BrancherWarning, HandlerTypeError


@model
def schools(sigma: torch.Tensor, y: Any = None) -> torch.Tensor:
    """Partial pooling."""
    mu = sample("mu", dist.Normal(0.0, 5.0))
    with plate("school", len(sigma), coords=["a", "b", "c"]):
        theta = sample("theta", dist.Normal(mu, 1.0))
        return sample("y", dist.Normal(theta, sigma), obs=y)


@model
def coin() -> torch.Tensor:
    return sample("p", dist.Normal(0.0, 1.0))


@guide
def approximation(sigma: torch.Tensor, y: Any = None) -> None:
    sample("mu", dist.Normal(param("loc", torch.tensor(3.0)), 1e-3))


SIGMA = torch.ones(3)


def test_root_exports_the_decorators() -> None:
    assert brancher.model is model and brancher.guide is guide


def test_the_function_stays_callable() -> None:
    assert schools(SIGMA).shape == (3,)


def test_name_signature_and_text_are_kept() -> None:
    assert schools.__name__ == "schools" and schools.__doc__ == "Partial pooling."
    assert list(inspect.signature(schools).parameters) == ["sigma", "y"]


def test_sites_are_the_function_s() -> None:
    assert handlers.trace(schools).get_trace(SIGMA).stochastic_nodes == ["mu", "theta", "y"]


def test_condition_observes() -> None:
    conditioned = schools.condition({"mu": torch.tensor(2.0)})
    assert isinstance(conditioned, Model)
    assert handlers.trace(conditioned).get_trace(SIGMA).observation_nodes == ["mu"]


def test_condition_takes_keywords() -> None:
    record = handlers.trace(schools.condition(mu=2.0)).get_trace(SIGMA)
    assert float(record["mu"].value) == 2.0


def test_condition_joins_data_and_keywords() -> None:
    record = handlers.trace(schools.condition({"theta": SIGMA}, mu=2.0)).get_trace(SIGMA)
    assert record.observation_nodes == ["mu", "theta"]


def test_condition_tells_unknown_names() -> None:
    with pytest.warns(BrancherWarning, match="did you mean 'mu'"):
        schools.condition(muu=2.0)(SIGMA)


def test_do_intervenes() -> None:
    assert float(coin.do(p=7.0)()) == 7.0


def test_prior_has_labelled_draws() -> None:
    draws = schools.prior(5, SIGMA)
    assert draws["theta"].shape == (5, 3)
    assert "theta[b]" in draws.to_frame()


def test_prior_of_a_conditioned_model_keeps_the_value() -> None:
    draws = schools.condition(mu=2.0).prior(4, SIGMA)
    assert torch.equal(draws["mu"], torch.full((4,), 2.0))


def test_shapes_is_a_table_of_sites() -> None:
    table = schools.shapes(SIGMA)
    assert table.loc["theta", "batch_shape"] == (3,)
    assert table.loc["theta", "plates"] == "school"


def test_shapes_leaves_the_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    schools.shapes(SIGMA)
    assert torch.equal(torch.get_rng_state(), before)


def test_render_draws_the_model() -> None:
    assert schools.render(SIGMA, y=SIGMA).edges == (("mu", "theta"), ("theta", "y"))


def test_guide_draws() -> None:
    draws = approximation.sample(4, SIGMA)
    assert torch.allclose(draws["mu"], torch.full((4,), 3.0), atol=0.1)


def test_notebook_shows_the_sites_of_a_model_without_arguments() -> None:
    assert "Normal" in coin._repr_html_()


def test_notebook_shows_the_signature_of_a_model_with_arguments() -> None:
    shown = schools._repr_html_()
    assert "Partial pooling." in shown and "sigma" in shown and ".shapes" in shown


def test_repr_names_the_function() -> None:
    assert repr(coin).startswith("model coin(")


class Regression:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    @model
    def predict(self, n: int) -> torch.Tensor:
        with plate("row", n):
            return sample("y", dist.Normal(0.0, self.scale))


def test_methods_can_be_models() -> None:
    assert Regression(1.0).predict(4).shape == (4,)
    assert Regression(1.0).predict.prior(5, 4)["y"].shape == (5, 4)


def test_method_s_signature_has_no_self() -> None:
    assert list(inspect.signature(Regression(1.0).predict).parameters) == ["n"]


def test_modules_can_be_models() -> None:
    class Net(torch.nn.Module):
        def forward(self) -> torch.Tensor:
            return sample("x", dist.Normal(0.0, 1.0))

    assert model(Net()).prior(3)["x"].shape == (3,)


# Pickle finds functions by the name of their module, and test files are no importable modules.
@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("models_of_the_test")
    module.coin = coin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "models_of_the_test", module)
    monkeypatch.setattr(coin, "__module__", "models_of_the_test")


def test_pickle_finds_the_same_model(importable: None) -> None:
    assert pickle.loads(pickle.dumps(coin)) is coin


def test_pickle_keeps_conditions(importable: None) -> None:
    twin = pickle.loads(pickle.dumps(coin.condition(p=2.0)))
    assert float(twin()) == 2.0


def test_deepcopy_works() -> None:
    local = model(lambda: sample("x", dist.Normal(0.0, 1.0)))
    assert copy.deepcopy(local)().shape == ()
    assert float(copy.deepcopy(coin.condition(p=2.0))()) == 2.0


@pytest.mark.parametrize("decorate", [model, guide])
def test_what_is_no_function_error(decorate: Any) -> None:
    with pytest.raises(HandlerTypeError, match="expected a function"):
        decorate(3)
