"""Adam's step by its kernel gives what torch's method gives, which is called where it does more."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from brancher.optim import Optimizer, direct

SHAPES = ((3,), (), (2, 4), (0,))


def leaves(dtypes=(torch.float32,)):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        for shape in SHAPES
        for dtype in dtypes
    ]


def give_gradients(parameters, generator, leave_out=()):
    for i, parameter in enumerate(parameters):
        grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        parameter.grad = None if i in leave_out else grad


def compare(make, steps=20, dtypes=(torch.float32,), leave_out=()):
    """Bit for bit: both call the same kernel."""
    ours, theirs = leaves(dtypes), leaves(dtypes)
    mine, reference = make(ours), make(theirs)
    first, second = (torch.Generator().manual_seed(1) for _ in range(2))
    for i in range(steps):
        give_gradients(ours, first, leave_out if i % 3 else ())
        give_gradients(theirs, second, leave_out if i % 3 else ())
        direct.step(mine)
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
        for key, value in reference.state[other].items():
            assert torch.equal(mine.state[one][key], value)
    return mine


OPTIONS = [
    {},
    {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3},
    {"weight_decay": 0.1},
    {"maximize": True},
    {"amsgrad": True},
    {"lr": torch.tensor(0.1)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("family", [torch.optim.Adam, torch.optim.AdamW])
def test_step_is_torch_step(family, options):
    compare(lambda given: family(given, fused=True, **options))


def test_step_with_groups_dtypes_and_missing_gradients():
    def make(given):
        groups = [{"params": given[:3], "lr": 0.1}, {"params": given[3:], "weight_decay": 0.2}]
        return torch.optim.Adam(groups, fused=True)

    compare(make, dtypes=(torch.float32, torch.float64), leave_out=(1, 4))
    compare(make, leave_out=(0, 1, 2, 3))


@pytest.mark.parametrize("family", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam])
def test_other_optimizers_step_by_themselves(family):
    compare(lambda given: family(given, lr=0.1))


def test_expanded_gradient_is_read_right():
    ours, theirs = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    mine, reference = (torch.optim.Adam([leaf], fused=True) for leaf in (ours, theirs))
    for _ in range(3):
        ours.grad, theirs.grad = torch.tensor(2.0).expand(3), torch.full((3,), 2.0)
        direct.step(mine)
        reference.step()
    assert torch.equal(ours, theirs)


def test_hooks_are_called():
    (leaf,) = parameters = [torch.zeros(2, requires_grad=True)]
    optimizer, calls = torch.optim.Adam(parameters, fused=True), []
    for expected in ([], [], ["own"], ["own", "own", "all"]):
        leaf.grad = torch.ones(2)
        direct.step(optimizer)
        assert calls == expected
        if not calls:
            if optimizer.state[leaf]["step"] == 2:
                optimizer.register_step_post_hook(lambda *_: calls.append("own"))
        elif calls == ["own"]:
            handle = register_optimizer_step_post_hook(lambda *_: calls.append("all"))
    handle.remove()


def test_schedule_sees_every_step(recwarn):
    leaf = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([leaf], lr=1.0, fused=True)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        leaf.grad = torch.ones(2)
        direct.step(optimizer)
        schedule.step()
    assert not recwarn.list and optimizer.param_groups[0]["lr"] == 0.125


def test_gradient_scaler_skips_a_step_with_infinity():
    leaf = torch.zeros(2, requires_grad=True)
    optimizer, scaler = torch.optim.Adam([leaf], fused=True), torch.amp.GradScaler("cpu", init_scale=2.0)
    for wanted, moves in ((1.0, True), (float("inf"), False), (1.0, True)):
        before = leaf.detach().clone()
        scaler.scale((leaf * wanted).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert bool((leaf != before).all()) == moves
    leaf.grad = torch.ones(2)
    before = leaf.detach().clone()
    direct.step(optimizer)
    assert bool((leaf != before).all())


@pytest.mark.parametrize("dampening", [0.0, 0.3])
def test_momentum_of_a_leaf_that_joins_later(dampening):
    options = {"lr": 0.1, "momentum": 0.9, "dampening": dampening}
    ours, theirs = [[torch.ones(2, requires_grad=True) for _ in range(2)] for _ in range(2)]
    optimizer, plain = Optimizer(torch.optim.SGD, options), torch.optim.SGD(theirs, **options)
    optimizer.bind({"first": ours[0], "second": ours[1]})
    for step in range(5):
        for one, (first, second) in ((optimizer, ours), (plain, theirs)):
            one.zero_grad()
            (first.square().sum() + (second.square().sum() if step > 1 else 0.0)).backward()
            one.step()
    torch.testing.assert_close(ours, theirs)
    assert all(group["fused"] for group in optimizer.param_groups)


def run(program):
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


FIT = """
import sys
import torch
from brancher import distributions as dist, optim, plate, sample
from brancher.infer import SVI
from brancher.infer.autoguide import AutoNormal

def model(y):
    scale = sample("scale", dist.HalfCauchy(1.0))
    share = sample("share", dist.Uniform(0.0, 1.0))
    with plate("row", 3):
        sample("y", dist.Normal(share, scale), obs=y)

svi = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.1}))
for _ in range(3):
    svi.step(torch.ones(3))
"""


@pytest.mark.parametrize("name", ["Adam", "AdamW", "ClippedAdam"])
def test_a_first_fit_imports_no_compiler(name):
    program = FIT.replace("optim.Adam", f"optim.{name}")
    loaded = run(
        program + "print(sorted({'torch._dynamo', 'torch._inductor', 'sympy'} & sys.modules.keys()))"
    )
    assert loaded.strip() == "[]"


def test_dynamo_is_switched_off_in_optimizers_once_it_is_there():
    program = """
import torch._dynamo
before = torch.optim.Optimizer.state_dict.__wrapped__
svi.optim.torch_optimizer.state_dict()
disabled = getattr(before, "__dynamo_disable")
count = len(svi.optim.torch_optimizer.state_dict()["state"])
print(type(disabled).__name__, disabled._torchdynamo_disable, count)
"""
    assert run(FIT + program).split() == ["function", "True", "4"]
