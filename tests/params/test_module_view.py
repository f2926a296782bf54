from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributions import constraints

from brancher.errors import BrancherWarning, ParamError, ParamTypeError, UnknownParamError
from brancher.params import ParamStore


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.rnn = nn.GRU(4, 2, batch_first=True)

    def forward(self, x):
        return self.rnn(self.norm(self.fc1(x))[:, None])[0]


@pytest.fixture
def store() -> ParamStore:
    return ParamStore()


def test_parameters_are_the_modules_own(store):
    net = Net()
    assert store.register_module("encoder", net) is net
    assert store["encoder.fc1.weight"] is net.fc1.weight
    assert list(store) == [f"encoder.{name}" for name, _ in net.named_parameters()]


def test_order_is_that_of_declaration(store):
    store.declare("a", 1.0)
    store.register_module("net", nn.Linear(1, 1))
    store.declare("b", 1.0)
    assert list(store.unconstrained()) == ["a", "net.weight", "net.bias", "b"]


def test_frozen_parameters_are_readable_but_not_trained(store):
    net = store.register_module("net", nn.Linear(1, 1))
    net.bias.requires_grad_(False)
    assert list(store.unconstrained()) == ["net.weight"] and "net.bias" in store


def test_a_parameter_under_two_names_is_trained_once(store):
    net = nn.Linear(1, 1)
    store.register_module("a", net)
    store.register_module("b", net)
    assert list(store.unconstrained()) == ["a.weight", "a.bias"] and "b.weight" in store


def test_view_follows_a_replaced_layer(store):
    net = store.register_module("net", nn.Sequential(nn.Linear(1, 1)))
    assert len(store) == 2
    net[0] = nn.Linear(1, 1, bias=False)
    assert list(store) == ["net.0.weight"] and store["net.0.weight"] is net[0].weight
    net.append(nn.Linear(1, 1))
    net[0].weight = nn.Parameter(torch.zeros(1, 1))
    assert len(store) == 3 and store["net.0.weight"] is net[0].weight


def test_view_waits_for_lazy_parameters(store):
    net = store.register_module("net", nn.LazyLinear(2))
    assert list(store) == []
    net(torch.ones(1, 3))
    assert store["net.weight"].shape == (2, 3)


def test_setitem_writes_into_the_module(store):
    net = store.register_module("net", nn.Linear(2, 1))
    weight = net.weight
    store["net.weight"] = torch.tensor([[1.0, 2.0]])
    assert net.weight is weight and weight.tolist() == [[1.0, 2.0]]


def test_setitem_of_another_shape_error(store):
    store.register_module("net", nn.Linear(2, 1))
    with pytest.raises(ParamError, match=r"'net.weight'.*\(1, 2\).*\(3,\)"):
        store["net.weight"] = torch.ones(3)


def test_declare_of_a_modules_parameter_returns_it(store):
    net = store.register_module("net", nn.Linear(2, 1))
    assert store.declare("net.weight", torch.ones(1, 2)) is net.weight
    with pytest.raises(ParamError, match=r"'net.weight'.*Real.*GreaterThan"):
        store.declare("net.weight", torch.ones(1, 2), constraints.positive)


def test_delitem_of_a_modules_parameter_error(store):
    store.register_module("net", nn.Linear(2, 1))
    with pytest.raises(ParamError, match=r"'net.weight'.*module"):
        del store["net.weight"]


def test_unregister_module(store):
    store.register_module("net", nn.Linear(2, 1))
    store.unregister_module("net")
    assert len(store) == 0
    with pytest.raises(UnknownParamError, match="'net'"):
        store.unregister_module("net")


def test_same_module_again_is_silent(store):
    net = nn.Linear(1, 1)
    for _ in range(2):
        store.register_module("net", net)
    assert len(store) == 2


def test_two_modules_under_one_name_warns(store):
    store.register_module("net", nn.Linear(1, 1))
    second = nn.Linear(1, 1)
    with pytest.warns(BrancherWarning, match="'net'"):
        store.register_module("net", second)
    assert store["net.weight"] is second.weight


def test_module_over_a_declared_name_error(store):
    store.declare("net.weight", torch.ones(1, 1))
    with pytest.raises(ParamError, match=r"'net'.*'net.weight'"):
        store.register_module("net", nn.Linear(1, 1))
    assert list(store) == ["net.weight"]


def test_register_no_module_error(store):
    with pytest.raises(ParamTypeError, match=r"'net'.*function"):
        store.register_module("net", lambda: None)


def test_state_of_modules_is_written_in_place(store):
    net = store.register_module("net", Net())
    before = copy.deepcopy(net.state_dict())
    state = store.get_state()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.add_(1)
    weight = net.fc1.weight
    store.set_state(state)
    assert net.fc1.weight is weight
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_state_keeps_the_order_of_declaration(store):
    store.declare("a", 1.0)
    store.register_module("net", nn.Linear(1, 1))
    store.set_state(store.get_state())
    assert list(store) == ["a", "net.weight", "net.bias"]


def test_state_of_other_shapes_changes_nothing_error(store):
    small = ParamStore()
    small.register_module("net", nn.Linear(2, 1))
    big = nn.Linear(3, 1)
    store.declare("a", 1.0)
    store.register_module("net", big)
    before = big.weight.clone()
    with pytest.raises(ParamError, match=r"'net.weight'.*\(1, 3\).*\(1, 2\)"):
        store.set_state(small.get_state())
    assert torch.equal(big.weight, before) and "a" in store


def test_values_put_in_before_the_module_reach_it(store):
    source = Net()
    other = ParamStore()
    other.register_module("net", source)
    source.norm.running_mean.fill_(3.0)
    store.set_state(other.get_state())
    assert torch.equal(store["net.fc1.weight"], source.fc1.weight)
    passed_on = ParamStore()
    passed_on.set_state(store.get_state())
    for held in (store, passed_on):
        net = held.register_module("net", Net())
        assert all(torch.equal(value, source.state_dict()[name]) for name, value in net.state_dict().items())
        assert held["net.fc1.weight"] is net.fc1.weight and len(held) == len(list(net.parameters()))


def test_values_of_other_shapes_put_in_before_the_module_error(store):
    other = ParamStore()
    other.register_module("net", nn.Linear(2, 1))
    store.set_state(other.get_state())
    with pytest.raises(ParamError, match=r"'net.weight'.*\(1, 3\).*\(1, 2\)"):
        store.register_module("net", nn.Linear(3, 1))


class Scale(nn.Module):
    """Holds the logarithm of what its user sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2))
        self.parameter_constraints = {"scale": constraints.positive}


def test_a_module_may_say_where_its_values_lie(store):
    guide = store.register_module("guide", nn.Sequential(Scale()))
    assert store["guide.0.scale"].tolist() == [1.0, 1.0]
    assert store.constraint("guide.0.scale") is constraints.positive
    assert store.leaf("guide.0.scale") is guide[0].scale is store.unconstrained()["guide.0.scale"]
    assert store.declare("guide.0.scale", torch.ones(2), constraints.positive).tolist() == [1.0, 1.0]


def test_constrained_values_of_a_module_are_written_unconstrained(store):
    guide = store.register_module("guide", Scale())
    store["guide.scale"] = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(guide.scale.detach(), torch.tensor([1.0, 2.0]).log())
    with pytest.raises(ParamError, match=r"'guide\.scale'.*-1"):
        store["guide.scale"] = torch.tensor([1.0, -1.0])


def test_constrained_values_of_a_module_wait_for_it(store, tmp_path):
    guide = store.register_module("guide", Scale())
    store["guide.scale"] = torch.tensor([1.0, 2.0])
    store.save(tmp_path / "p")
    other = ParamStore()
    other.load(tmp_path / "p")
    assert torch.equal(other["guide.scale"], store["guide.scale"])
    assert torch.equal(other.register_module("guide", Scale()).scale, guide.scale)


def test_substituted_reaches_a_constrained_value_of_a_module(store):
    store.register_module("guide", Scale())
    with store.substituted({"guide.scale": torch.ones(2)}):
        assert torch.equal(store["guide.scale"], torch.ones(2).exp())
    assert store["guide.scale"].tolist() == [1.0, 1.0]


def test_substituted_reaches_the_forward_of_every_layer(store):
    net = store.register_module("net", Net())
    x = torch.randn(5, 3)
    other = {name: (leaf * 2).detach().requires_grad_() for name, leaf in store.unconstrained().items()}
    doubled = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in doubled.parameters():
            parameter.mul_(2)
    before = net(x)
    with store.substituted(other):
        value = net(x)
        assert store["net.fc1.weight"] is other["net.fc1.weight"]
    assert torch.equal(value, doubled(x)) and torch.equal(net(x), before)
    assert all(gradient is not None for gradient in torch.autograd.grad(value.sum(), list(other.values())))
    assert all(isinstance(parameter, nn.Parameter) for parameter in net.parameters())


def test_substituted_reaches_tied_weights(store):
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    store.register_module("a", nn.Sequential(first, second))
    store.register_module("b", second)
    with store.substituted({"a.0.weight": torch.zeros(2, 2)}):
        assert second(torch.ones(2)).tolist() == [0.0, 0.0]
    assert second.weight is first.weight is store["b.weight"]


def test_substituted_restores_the_module_after_an_exception(store):
    net = store.register_module("net", nn.Linear(1, 1))
    weight = net.weight
    with pytest.raises(ZeroDivisionError), store.substituted({"net.weight": torch.zeros(1, 1)}):
        raise ZeroDivisionError
    assert net.weight is weight
