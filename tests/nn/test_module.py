"""Torch modules as models: names, sites, parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from brancher import distributions as dist
from brancher import get_param_store, handlers, plate, sample
from brancher.distributions import constraints
from brancher.errors import ParamError, SiteTypeError
from brancher.infer import SVI, Predictive
from brancher.infer.autoguide import AutoDiagonalNormal
from brancher.nn import PyroModule, PyroModuleList, PyroParam, PyroSample, pyro_method, to_pyro_module_
from brancher.optim import Adam


class Regression(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](3, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))
        self.noise = PyroParam(torch.tensor(0.5), constraint=dist.constraints.positive)

    def forward(self, x, y=None):
        loc = self.linear(x).squeeze(-1)
        with plate("row", len(x)):
            sample("y", dist.Normal(loc, self.noise), obs=y)
        return loc


class Twice(PyroModule):
    def __init__(self):
        super().__init__()
        self.z = PyroSample(dist.Normal(0.0, 1.0))

    def forward(self):
        return self.z, self.z


def test_sites_are_named_by_the_path_of_the_attribute():
    trace = handlers.trace(Regression()).get_trace(torch.ones(4, 3))
    assert trace.stochastic_nodes == ["linear.weight", "y"]
    assert trace.param_nodes == ["linear.bias", "noise"]


def test_param_site_shows_the_constrained_value_and_the_unconstrained_leaf():
    module = Regression()
    site = handlers.trace(module).get_trace(torch.ones(4, 3)).nodes["noise"]
    assert torch.isclose(site.value, torch.tensor(0.5))
    assert site.unconstrained is module._parameters["noise"]


def test_sample_is_drawn_once_a_call_and_afresh_in_the_next():
    module = Twice()
    first, second = module()
    assert first is second
    assert module()[0] != first


def test_sample_outside_a_call_is_a_plain_draw():
    with handlers.trace() as recorder:
        Twice().z  # noqa: B018
    assert len(recorder.trace) == 0


def test_prior_may_depend_on_the_module_and_be_a_value():
    class Nested(PyroModule):
        def __init__(self):
            super().__init__()
            self.a = PyroSample(dist.Normal(0.0, 1.0))
            self.b = PyroSample(lambda self: dist.Delta(2.0 * self.a))
            self.c = PyroSample(lambda self: self.a + 1.0)

        def forward(self):
            return self.c, self.b

    trace = handlers.trace(Nested()).get_trace()
    assert trace.nodes["b"].value == 2.0 * trace.nodes["a"].value
    assert trace.nodes["c"].type == "deterministic"


def test_decorated_methods_make_priors_and_parameters():
    class Decorated(PyroModule):
        @PyroParam(constraint=dist.constraints.positive)
        def scale(self):
            return torch.ones(2)

        @PyroSample
        def z(self):
            return dist.Normal(torch.zeros(2), self.scale).to_event(1)

        @pyro_method
        def twice(self):
            return 2.0 * self.z

    module = Decorated()
    assert torch.allclose(module.scale, torch.ones(2))
    trace = handlers.trace(module.twice).get_trace()
    assert (trace.stochastic_nodes, trace.param_nodes) == (["z"], ["scale"])
    assert torch.equal(trace.nodes["_RETURN"].value, 2.0 * trace.nodes["z"].value)


def test_parameter_takes_a_constrained_value():
    module = Regression()
    leaf = module._parameters["noise"]
    module.noise = torch.tensor(3.0)
    assert torch.isclose(module.noise, torch.tensor(3.0))
    assert module._parameters["noise"] is leaf


def test_parameter_outside_its_constraint_error():
    module = Regression()
    with pytest.raises(ParamError, match="noise"):
        module.noise = torch.tensor(-1.0)


def test_store_shows_the_parameters_constrained():
    module = Regression()
    module(torch.ones(2, 3))
    store = get_param_store()
    assert set(store.keys()) == {"noise", "linear.bias"}
    assert torch.isclose(store["noise"], torch.tensor(0.5))


def test_named_root_puts_its_name_first():
    class Named(PyroModule):
        def __init__(self):
            super().__init__("net")
            self.loc = PyroParam(torch.zeros(2))

        def forward(self):
            return self.loc

    assert handlers.trace(Named()).get_trace().param_nodes == ["net.loc"]
    assert set(get_param_store().keys()) == {"net.loc"}


def test_svi_trains_parameters_and_guide():
    module, x = Regression(), torch.randn(30, 3)
    y = x @ torch.tensor([1.0, -1.0, 0.5]) + 2.0
    guide = AutoDiagonalNormal(module)
    before = [p.clone() for p in module.parameters()]
    svi = SVI(module, guide, Adam({"lr": 0.05}))
    first = svi.step(x, y)
    losses = [svi.step(x, y) for _ in range(150)]
    assert losses[-1] < first
    assert all(bool((a != b).any()) for a, b in zip(before, module.parameters(), strict=True))
    draws = Predictive(module, guide=guide, num_samples=3, return_sites=("linear.weight", "_RETURN"))(x)
    assert draws["linear.weight"].shape[0] == draws["_RETURN"].shape[0] == 3


def test_plain_module_inside_shows_its_parameters():
    class Mixed(PyroModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 1)

        def forward(self, x):
            return self.net(x)

    assert handlers.trace(Mixed()).get_trace(torch.ones(1, 2)).param_nodes == ["net.weight", "net.bias"]


def test_lift_makes_a_network_bayesian():
    layer = PyroModule[nn.Linear](2, 1)
    lifted = handlers.lift(layer, prior={"bias": dist.Normal(torch.zeros(1), 1.0).to_event(1)})
    trace = handlers.trace(lifted).get_trace(torch.zeros(1, 2))
    assert trace.stochastic_nodes == ["bias"]
    assert torch.equal(trace.nodes["_RETURN"].value[0], trace.nodes["bias"].value)


def test_to_pyro_module_turns_everything_inside():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    to_pyro_module_(net)
    for module in net.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            setattr(module, name, PyroSample(dist.Normal(0.0, 1.0).expand(value.shape).to_event(value.dim())))
    trace = handlers.trace(net).get_trace(torch.ones(4, 2))
    assert trace.stochastic_nodes == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_module_list_names_its_items():
    class Layers(PyroModule):
        def __init__(self):
            super().__init__()
            self.layers = PyroModuleList([Twice(), Twice()])

        def forward(self):
            return [layer() for layer in self.layers]

    assert handlers.trace(Layers()).get_trace().stochastic_nodes == ["layers.0.z", "layers.1.z"]


def test_mixed_class_is_made_once():
    assert PyroModule[nn.Linear] is PyroModule[nn.Linear]
    assert PyroModule[Twice] is Twice
    assert PyroModule[nn.Module] is PyroModule


def test_state_dict_and_deepcopy_keep_values():
    module, other = Regression(), Regression()
    module.noise = torch.tensor(2.0)
    other.load_state_dict(module.state_dict())
    assert torch.isclose(other.noise, torch.tensor(2.0))
    twin = copy.deepcopy(module)
    twin.noise = torch.tensor(1.0)
    assert torch.isclose(module.noise, torch.tensor(2.0))


def test_sample_of_no_prior_error():
    with pytest.raises(SiteTypeError, match="PyroSample"):
        PyroSample(3.0)


def test_brackets_of_no_module_error():
    with pytest.raises(SiteTypeError, match="in brackets"):
        PyroModule[int]


def test_named_pyro_params_are_constrained():
    class Inner(PyroModule):
        def __init__(self):
            super().__init__()
            self.scale = PyroParam(torch.tensor(2.0), constraints.positive)

    module = PyroModule()
    module.inner, module.weight = Inner(), torch.nn.Parameter(torch.tensor(-1.0))
    found = {name: value.item() for name, value in module.named_pyro_params("net")}
    assert found == {"net.weight": -1.0, "net.inner.scale": pytest.approx(2.0)}


def test_unconstrained_form_of_a_parameter():
    module = PyroModule()
    module.scale = PyroParam(torch.tensor(2.0), constraint=constraints.positive)
    assert isinstance(module.scale_unconstrained, nn.Parameter)
    torch.testing.assert_close(module.scale_unconstrained.exp(), module.scale)
    with torch.no_grad():
        module.scale_unconstrained.zero_()
    assert module.scale == 1.0
    with pytest.raises(AttributeError, match="other_unconstrained"):
        module.other_unconstrained  # noqa: B018


def test_attributes_of_a_user_do_not_meet_those_of_the_class():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self._priors = {"weight": "mine"}
            self._event_dims = self._root_name = None
            self.weight = PyroSample(dist.Normal(0.0, 1.0))
            self.scale = PyroParam(torch.tensor(1.0), dist.constraints.positive, event_dim=0)

        def forward(self):
            return self.weight * self.scale

    model = Model()
    assert handlers.trace(model).get_trace().stochastic_nodes == ["weight"]
    assert model._priors == {"weight": "mine"}


def test_full_name_of_a_site_inside_a_module():
    class Inner(PyroModule):
        def forward(self):
            return sample(self._pyro_get_fullname("x"), dist.Normal(0.0, 1.0))

    class Outer(PyroModule):
        def __init__(self):
            super().__init__("outer")
            self.inner = Inner()

        def forward(self):
            return self.inner()

    assert handlers.trace(Outer()).get_trace().stochastic_nodes == ["outer.inner.x"]
    assert Outer()._pyro_get_fullname("x") == "outer.x"
    assert Inner()._pyro_get_fullname("x") == "x"
