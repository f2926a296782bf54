from __future__ import annotations

import copy
import functools
import gc
import weakref

import pytest
import torch

from brancher import optim
from brancher.errors import BrancherWarning, OptimError, OptimTypeError
from brancher.optim import Optimizer, as_optimizer
from brancher.optim.named import OPTIMIZERS
from brancher.params import ParamStore, current_store

NEEDS_CARE = {"LBFGS", "SparseAdam"}
DENSE = sorted(OPTIMIZERS.keys() - NEEDS_CARE)


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def train(optimizer, named, steps=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.bind(named)
        for parameter in named.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype).to(
                parameter.device
            )
        optimizer.step()


@pytest.mark.parametrize("name", DENSE)
def test_every_class_steps_as_its_torch_class(name):
    ours = {key: torch.ones(2, 3, requires_grad=True) for key in "abc"}
    theirs = {key: torch.ones(2, 3, requires_grad=True) for key in "abc"}
    reference = OPTIMIZERS[name](list(theirs.values()))
    train(getattr(optim, name)(), ours, 10)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        for parameter in theirs.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        reference.step()
    for key in "abc":
        # The fused and foreach forms round otherwise than the loop, by a few ulp a step.
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"LBFGS"}))
def test_every_class_is_found_by_name(name):
    assert isinstance(getattr(optim, name)(), Optimizer) and name in dir(optim)


def test_unknown_name_error():
    with pytest.raises(AttributeError, match="'Adamm'; did you mean 'Adam'"):
        optim.Adamm  # noqa: B018


def test_lbfgs_error():
    with pytest.raises(OptimError, match="LBFGS"):
        optim.LBFGS()


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.Adam({"lr": 0.5}),
        lambda: optim.Adam(lr=0.5),
        lambda: Optimizer(torch.optim.Adam, {"lr": 0.5}),
    ],
)
def test_options_as_dict_or_keywords(make):
    optimizer = make()
    optimizer.bind({"a": leaf(1.0)})
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_users_dict_is_not_changed():
    options = {"lr": 0.5}
    train(optim.ClippedAdam(options), {"a": leaf(1.0)})
    assert options == {"lr": 0.5}


def test_options_in_both_places_error():
    with pytest.raises(OptimError, match="Adam.*betas"):
        optim.Adam({"lr": 0.5}, betas=(0.9, 0.99))


@pytest.mark.parametrize("lr", [-1, -0.1, float("nan"), float("inf"), "fast"])
def test_bad_learning_rate_error(lr):
    with pytest.raises(OptimError, match=f"Adam.*{lr}"):
        optim.Adam({"lr": lr})


def test_unknown_option_error():
    with pytest.raises(OptimError, match="SGD.*speed"):
        optim.SGD({"speed": 1.0})


def test_options_of_another_type_error():
    with pytest.raises(OptimTypeError, match=r"Adam.*float"):
        optim.Adam(0.01)


def test_one_group_for_one_set_of_options():
    optimizer = optim.Adam(lr=0.1)
    optimizer.bind({"a": leaf(1.0)})
    optimizer.bind({"a": leaf(1.0), "b": leaf(2.0)})
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]


def test_options_by_name():
    optimizer = optim.SGD(lambda name: {"lr": 1.0 if name == "a" else 0.5})
    named = {key: leaf(0.0) for key in ("a", "b", "c")}
    optimizer.bind(named)
    for parameter in named.values():
        parameter.grad = torch.ones(1)
    optimizer.step()
    assert [parameter.item() for parameter in named.values()] == [-1.0, -0.5, -0.5]
    assert len(optimizer.param_groups) == 2


def test_options_by_module_and_name():
    seen = []
    optimizer = optim.SGD(lambda module, name: seen.append((module, name)) or {"lr": 0.1})
    optimizer.bind({"encoder.fc.weight": leaf(1.0), "scale": leaf(1.0)})
    assert seen == [("encoder", "fc.weight"), ("scale", "scale")]


@pytest.mark.parametrize("found", [None, {"lr": -1.0}])
def test_bad_options_of_a_parameter_error(found):
    optimizer = optim.SGD(lambda name: {"lr": 0.1} if name == "a" else found)
    named = {"a": leaf(1.0)}
    optimizer.bind(named)
    with pytest.raises(OptimError, match=r"SGD"):
        optimizer.bind({**named, "b": leaf(1.0)})
    assert optimizer.names == ["a"]


# Parameters that come and go ------------------------------------------------------------------------


def test_bind_again_keeps_state():
    optimizer, named = optim.Adam(lr=0.1), {"a": leaf(1.0)}
    train(optimizer, named, 2)
    optimizer.bind(dict(named))
    assert optimizer.torch_optimizer.state[named["a"]]["step"].item() == 2


@pytest.mark.parametrize("name", DENSE)
def test_parameter_that_comes_later_is_trained(name):
    optimizer, named = getattr(optim, name)(), {"a": torch.ones(2, 2, requires_grad=True)}
    train(optimizer, named, 2)
    named["b"] = torch.ones(2, 2, requires_grad=True)
    train(optimizer, named, 2)
    assert not torch.equal(named["b"], torch.ones(2, 2))


@pytest.mark.parametrize("name", DENSE)
def test_parameter_made_again_is_trained_afresh(name):
    optimizer = getattr(optim, name)()
    train(
        optimizer, {"a": torch.ones(2, 2, requires_grad=True), "b": torch.ones(2, 2, requires_grad=True)}, 5
    )
    again = {key: torch.ones(2, 2, requires_grad=True) for key in "ab"}
    first = {key: torch.ones(2, 2, requires_grad=True) for key in "ab"}
    train(optimizer, again)
    train(getattr(optim, name)(), first)
    if name == "ClippedAdam" or "lr" not in optimizer.param_groups[0]:
        return  # a learning rate that decays belongs to the group, not to the parameter
    assert torch.equal(again["a"], first["a"]) and torch.equal(again["b"], first["b"])


def test_parameter_of_another_shape_after_clear():
    store, optimizer = ParamStore(), optim.Adam(lr=0.1)
    store.declare("a", torch.ones(2))
    train(optimizer, store.unconstrained())
    store.clear()
    store.declare("a", torch.ones(3))
    train(optimizer, store.unconstrained())
    assert not torch.equal(store["a"], torch.ones(3))


def test_parameter_made_again_frees_the_old_one():
    optimizer, named = optim.Adam(lr=0.1), {"a": leaf(1.0)}
    train(optimizer, named)
    old = weakref.ref(named["a"])
    named["a"] = leaf(1.0)
    train(optimizer, named)
    gc.collect()
    assert old() is None


def test_two_sets_of_parameters_share_an_optimizer():
    optimizer, first, second = optim.Adam(lr=0.1), {"a": leaf(1.0)}, {"b": leaf(1.0)}
    for _ in range(3):
        train(optimizer, first)
        train(optimizer, second)
    assert optimizer.torch_optimizer.state[first["a"]]["step"].item() == 3


def test_one_tensor_under_two_names_is_held_once():
    optimizer, shared = optim.SGD(lr=1.0), leaf(1.0)
    optimizer.bind({"a": shared})
    optimizer.bind({"b": shared})
    assert optimizer.names == ["a"]


def test_step_without_parameters_does_nothing():
    optimizer = optim.Adam()
    optimizer.bind({})
    optimizer.step()
    assert optimizer.torch_optimizer is None and optimizer.param_groups == []


def test_step_clears_gradients():
    named = {"a": leaf(1.0)}
    train(optim.Adam(), named)
    assert named["a"].grad is None


def test_parameter_without_a_gradient_stays():
    optimizer, named = optim.Adam(lr=0.1), {"a": leaf(1.0), "b": leaf(1.0)}
    optimizer.bind(named)
    named["a"].grad = torch.ones(1)
    optimizer.step()
    assert named["a"].item() != 1.0 and named["b"].item() == 1.0


def test_call_steps_on_the_given_leaves_only():
    store = current_store()
    store.declare("a", 1.0)
    store.declare("b", 1.0)
    optimizer, leaves = optim.SGD(lr=0.5), store.unconstrained()
    optimizer.bind(leaves)
    for parameter in leaves.values():
        parameter.grad = torch.ones(())
    optimizer([leaves["a"]])
    assert store["a"].item() == 0.5 and store["b"].item() == 1.0
    assert leaves["b"].grad is not None and optimizer.names == ["a", "b"]


def test_call_takes_leaves_outside_the_store():
    optimizer, free = optim.SGD(lr=0.5), leaf(1.0)
    free.grad = torch.ones(1)
    optimizer([free])
    optimizer([free])
    assert free.item() == 0.5 and optimizer.names == ["unnamed.0"]


@pytest.mark.parametrize("name", ["Adam", "SGD", "ClippedAdam", "RMSprop"])
def test_trains_on_any_device(name, device):
    named = {"a": torch.ones(3).to(device).requires_grad_()}
    train(getattr(optim, name)(lr=0.1), named, 3)
    assert not torch.equal(named["a"].detach().cpu(), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_trains_any_dtype(dtype):
    named = {"a": torch.ones(3, dtype=dtype, requires_grad=True), "b": leaf(1.0)}
    train(optim.Adam(lr=0.1), named, 3)
    assert named["a"].dtype == dtype and not torch.equal(named["a"], torch.ones(3, dtype=dtype))


# The fused kernels of torch 2.13 on the CPU ignore strides.
@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad", "ClippedAdam"])
@pytest.mark.parametrize("kind", ["expanded", "transposed gradient", "transposed parameter"])
@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=str)
def test_strides_do_not_matter(name, kind, options):
    if kind == "transposed parameter" and options:
        options = {}
    start = (
        torch.arange(20.0).reshape(5, 4).T
        if kind == "transposed parameter"
        else torch.arange(20.0).reshape(4, 5)
    )
    gradient = torch.randn(5, 4).T if kind == "transposed gradient" else torch.randn(4, 5)
    if kind == "expanded":
        gradient = torch.randn(()).expand(4, 5)
    results = []
    for parameter, grad in ((start.clone(), gradient), (start.clone().contiguous(), gradient.contiguous())):
        parameter.requires_grad_()
        optimizer = getattr(optim, name)(lr=0.1, **options)
        for _ in range(3):
            optimizer.bind({"a": parameter})
            parameter.grad = grad
            optimizer.step()
        results.append(parameter.detach())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


# Clipping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clip_args", "expected"),
    [
        ({"clip_norm": 1.0}, [-0.6, -0.8]),
        ({"clip_value": 1.0}, [-1.0, -1.0]),
        ({"clip_norm": 100.0, "clip_value": 3.5}, [-3.0, -3.5]),
        (lambda name: {"clip_value": 2.0}, [-2.0, -2.0]),
        (lambda module, name: {}, [-3.0, -4.0]),
    ],
)
def test_clip_args(clip_args, expected):
    parameter = leaf(0.0, 0.0)
    optimizer = optim.SGD({"lr": 1.0}, clip_args)
    optimizer.bind({"a": parameter})
    parameter.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    # The norm is divided by norm + 1e-6, as in torch.
    torch.testing.assert_close(parameter.detach(), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_clipping_leaves_a_shared_gradient_alone():
    shared = torch.tensor([3.0, 4.0])
    named = {"a": leaf(0.0, 0.0), "b": leaf(0.0, 0.0)}
    optimizer = optim.SGD({"lr": 1.0}, {"clip_norm": 1.0})
    optimizer.bind(named)
    for parameter in named.values():
        parameter.grad = shared
    optimizer.step()
    assert shared.tolist() == [3.0, 4.0] and torch.equal(named["a"], named["b"])


@pytest.mark.parametrize("clip_args", [{"clip_norm": 0.0}, {"clip_norm": -1.0}, {"clip": 1.0}])
def test_bad_clip_args_error(clip_args):
    with pytest.raises(OptimError, match="clip_args"):
        optim.Adam({"lr": 0.1}, clip_args)


def test_clip_args_of_another_type_error():
    with pytest.raises(OptimTypeError, match=r"clip_args.*float"):
        optim.Adam({"lr": 0.1}, 1.0)


# What counts as an optimizer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        None,
        "Adam",
        torch.optim.Adam,
        optim.Adam,
        optim.Adam({"lr": 0.1}),
        functools.partial(torch.optim.Adam, lr=0.1),
        lambda params: torch.optim.Adam(params, lr=0.1),
        optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.9}),
    ],
    ids=["None", "name", "torch class", "our class", "ours", "partial", "factory", "scheduled"],
)
def test_as_optimizer_accepts(given):
    optimizer, named = as_optimizer(given), {"a": leaf(1.0)}
    assert as_optimizer(optimizer) is optimizer
    train(optimizer, named, 2)
    named["b"] = leaf(1.0)
    train(optimizer, named, 2)
    assert isinstance(optimizer.torch_optimizer, torch.optim.Adam)
    assert named["a"].item() != 1.0 and named["b"].item() != 1.0


def test_default_is_adam():
    optimizer = as_optimizer(None)
    optimizer.bind({"a": leaf(1.0)})
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_adopted_instance_steps_what_it_holds():
    parameter = leaf(1.0)
    instance = torch.optim.SGD([parameter], lr=0.5)
    optimizer = as_optimizer(instance)
    optimizer.bind({"a": parameter})
    parameter.grad = torch.ones(1)
    optimizer.step()
    assert optimizer.torch_optimizer is instance and parameter.item() == 0.5


def test_adopted_instance_without_a_parameter_error():
    held = leaf(1.0)
    optimizer = as_optimizer(torch.optim.SGD([held], lr=0.5))
    with pytest.raises(OptimError, match=r"SGD.*\['b'\]"):
        optimizer.bind({"a": held, "b": leaf(1.0)})


@pytest.mark.parametrize("given", [3, 0.1, {}, [], object(), int, torch.nn.Linear(1, 1), ParamStore])
def test_something_else_error(given):
    with pytest.raises(OptimTypeError, match="optimizer") as caught:
        as_optimizer(given)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)


def test_unknown_name_of_an_optimizer_error():
    with pytest.raises(OptimError, match="'adam'.*did you mean 'Adam'"):
        as_optimizer("adam")


def test_factory_that_returns_something_else_error():
    optimizer = as_optimizer(lambda params: params)
    with pytest.raises(OptimTypeError, match=r"factory.*list"):
        optimizer.bind({"a": leaf(1.0)})


def test_deepcopy_keeps_the_state():
    optimizer, named = optim.Adam(lr=0.1), {"a": leaf(1.0)}
    train(optimizer, named, 3)
    assert copy.deepcopy(optimizer).state_dict()["state"]["a"]["step"].item() == 3


# Pyro's own -----------------------------------------------------------------------------------------


def test_clipped_adam_clamps_entries_and_decays_the_rate():
    parameter, reference = leaf(0.0, 0.0), leaf(0.0, 0.0)
    optimizer = optim.ClippedAdam({"lr": 0.1, "clip_norm": 1.0, "lrd": 0.5})
    adam = torch.optim.Adam([reference], lr=0.1)
    optimizer.bind({"a": parameter})
    for step in range(4):
        gradient = torch.tensor([0.3, -7.0]) * (step + 1)
        parameter.grad, reference.grad = gradient.clone(), gradient.clamp(-1.0, 1.0)
        adam.param_groups[0]["lr"] = 0.1 * 0.5 ** (step + 1)
        optimizer.step()
        adam.step()
    torch.testing.assert_close(parameter, reference)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**4)


def test_adagrad_rmsprop_follows_its_equations():
    parameter, value, total = leaf(1.0), 1.0, None
    optimizer = optim.AdagradRMSProp({"eta": 0.7, "t": 0.2})
    optimizer.bind({"a": parameter})
    for step, gradient in enumerate([2.0, -1.0, 0.5], 1):
        total = gradient**2 if total is None else 0.8 * total + 0.2 * gradient**2
        value -= 0.7 * step ** (-0.5 + 1e-16) * gradient / (1 + total**0.5)
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
    assert parameter.item() == pytest.approx(value, rel=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["ClippedAdam", "AdagradRMSProp"])
def test_steps_as_pyro(name):
    pyro_class = getattr(
        pytest.importorskip(f"pyro.optim.{'clipped_adam' if name == 'ClippedAdam' else 'adagrad_rmsprop'}"),
        name,
    )
    ours, theirs = leaf(1.0, -2.0), leaf(1.0, -2.0)
    optimizer, reference = getattr(optim, name)(), pyro_class([theirs])
    optimizer.bind({"a": ours})
    for step in range(20):
        gradient = torch.tensor([1.0, -30.0]) * (1 + step)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_state_unmatched_names_warns():
    first, second = optim.Adam(lr=0.1), optim.Adam(lr=0.1)
    train(first, {"a": leaf(1.0), "old": leaf(1.0)})
    train(second, {"a": leaf(1.0), "new": leaf(1.0)})
    with pytest.warns(BrancherWarning, match=r"unmatched entries \['old'\] and none for \['new'\]"):
        second.load_state_dict(first.state_dict())


def test_star_import_brings_every_optimizer_and_schedule():
    names: dict[str, object] = {}
    exec("from brancher.optim import *", names)
    assert {"Adam", "ClippedAdam", "AdagradRMSProp", "ExponentialLR", "PyroOptim"} < set(names)
    assert isinstance(names["Adam"]({"lr": 0.1}), optim.PyroOptim)
