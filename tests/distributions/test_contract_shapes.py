"""Every registered family: batch and event algebra, dtypes, copies, errors, tracing, devices."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from brancher.distributions.validation import validation_enabled
from brancher.errors import DistributionError


@pytest.mark.contract("sample")
def test_sample_shape(member: Any) -> None:
    d = member.make()
    assert d.sample(torch.Size([3, 2])).shape == (3, 2, *d.batch_shape, *d.event_shape)


@pytest.mark.contract("sample")
def test_call_draws_the_shape_it_tells(member: Any) -> None:
    d = member.make()
    assert d(torch.Size([4])).shape == d.shape(torch.Size([4]))


@pytest.mark.contract("sample")
def test_log_prob_shape(member: Any) -> None:
    d = member.make()
    assert d.log_prob(d.sample(torch.Size([3, 2]))).shape == (3, 2, *d.batch_shape)


@pytest.mark.contract("expand")
def test_expand_keeps_the_density(member: Any) -> None:
    d = member.make()
    e = d.expand(torch.Size([5, *d.batch_shape]))
    x = e.sample()
    assert e.batch_shape == (5, *d.batch_shape)
    assert x.shape == (5, *d.batch_shape, *d.event_shape)
    torch.testing.assert_close(e.log_prob(x), d.log_prob(x))


@pytest.mark.contract("independent", only=lambda member: not member.make().support.is_discrete)
def test_expanded_copies_draw_independently(member: Any) -> None:
    e = member.make().expand_by([50])
    x = e.sample().reshape(50, -1)
    assert len(x.unique(dim=0)) == 50


@pytest.mark.contract("expand")
def test_expand_by_twice(member: Any) -> None:
    d = member.make()
    d.sample()  # fills caches, which must not keep the old shape
    e = d.expand_by([2]).expand_by(torch.Size([3]))
    assert e.sample(torch.Size([4])).shape == (4, 3, 2, *d.batch_shape, *d.event_shape)
    assert e.log_prob(e.sample()).shape == (3, 2, *d.batch_shape)


@pytest.mark.contract("to_event")
def test_to_event_sums_the_batch(member: Any) -> None:
    d = member.make().expand_by([2])
    x = d.sample()
    e = d.to_event()
    assert (e.batch_shape, e.event_shape) == ((), d.batch_shape + d.event_shape)
    torch.testing.assert_close(e.log_prob(x), d.log_prob(x).sum())


@pytest.mark.contract("to_event")
def test_to_event_beyond_the_batch_error(member: Any) -> None:
    d = member.make()
    with pytest.raises(DistributionError, match=f"got {len(d.batch_shape) + 1}"):
        d.to_event(len(d.batch_shape) + 1)


@pytest.mark.contract("mask")
def test_mask_removes_values_and_gradients(member: Any) -> None:
    d = member.make().expand_by([2])
    x = d.sample()
    mask = torch.tensor([True, False]).reshape(2, *[1] * (len(d.batch_shape) - 1))
    broken = x.clone()
    if x.is_floating_point():
        broken[1] = float("nan")
    broken.requires_grad_(x.is_floating_point())
    log_prob = d.mask(mask).log_prob(broken)
    torch.testing.assert_close(log_prob[0].detach(), d.log_prob(x)[0])
    assert bool((log_prob[1] == 0).all())
    if log_prob.requires_grad:
        (grad,) = torch.autograd.grad(log_prob.sum(), broken)
        assert bool((grad[1] == 0).all())
        assert bool(grad[0].isfinite().all())


@pytest.mark.contract("mask", only=lambda member: member.make().sample().is_floating_point())
def test_masked_data_reach_no_gradient_of_a_parameter(member: Any) -> None:
    arguments = member.tensors()
    leaves = {
        k: v.clone().requires_grad_()
        for k, v in arguments.items()
        if isinstance(v, torch.Tensor) and k != "total_count"
    }
    d = member.make(**leaves)
    x = d.sample()
    masked = d.mask(torch.tensor(False)).log_prob(torch.full_like(x, float("nan")))
    if masked.requires_grad:
        grads = torch.autograd.grad(masked.sum(), list(leaves.values()), allow_unused=True)
        assert all(g is None or bool((g == 0).all()) for g in grads)


@pytest.mark.contract("infer_shapes")
def test_infer_shapes_foretells_the_shapes(member: Any) -> None:
    shapes = {k: v.shape for k, v in member.tensors().items() if isinstance(v, torch.Tensor)}
    d = member.make()
    assert member.family.infer_shapes(**shapes) == (d.batch_shape, d.event_shape)


@pytest.mark.contract("pickle")
def test_pickle_and_deepcopy(member: Any) -> None:
    d = member.make()
    x = d.sample()
    for again in (pickle.loads(pickle.dumps(d)), copy.deepcopy(d)):
        assert torch.equal(again.log_prob(x), d.log_prob(x))
        assert torch.equal(again.expand_by([2]).log_prob(x), d.expand_by([2]).log_prob(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.contract("float32")
def test_dtype_of_the_parameters_is_kept(member: Any, dtype: torch.dtype) -> None:
    d = member.make(dtype)
    x = d.sample()
    assert not x.is_floating_point() or x.dtype == dtype
    assert d.log_prob(x).dtype == dtype


@pytest.mark.contract("float32")
def test_float32_density_is_close_to_float64(member: Any) -> None:
    d = member.make(torch.float32)
    x = d.sample(torch.Size([100]))
    # Rounding to float32 may leave a support that float64 can resolve.
    with validation_enabled(False):
        wanted = member.make().log_prob(x.double() if x.is_floating_point() else x)
    # The draw is exact in both; a density near the border of its support amplifies its rounding.
    inside = wanted.abs() < 50
    got = d.log_prob(x).double()
    torch.testing.assert_close(got[inside], wanted[inside], rtol=2e-3, atol=2e-3)


@pytest.mark.contract("bad")
def test_argument_outside_its_constraint_error(member: Any) -> None:
    for name, value in member.case.bad.items():
        if name not in member.case.args[member.index]:
            continue
        value = torch.tensor(value, dtype=torch.float64) if isinstance(value, (list, float)) else value
        with pytest.raises(DistributionError, match=f"(?s){member.family.__name__}.*'{name}'.*got"):
            member.make(**{name: value})


@pytest.mark.contract("bad")
def test_argument_outside_its_constraint_passes_unvalidated(member: Any) -> None:
    for name, value in member.case.bad.items():
        if name in member.case.args[member.index] and isinstance(value, float) and member.case.build is None:
            member.make(**{name: torch.tensor(value, dtype=torch.float64)}, validate_args=False)


def has_value_outside(member: Any) -> bool:
    """Whether the entry has a value outside of the support, of this member's size."""
    if member.case.outside is None:
        return False
    value, d = torch.as_tensor(member.case.outside), member.make()
    return value.shape[value.dim() - d.event_dim :] == d.event_shape


@pytest.mark.contract("outside", only=has_value_outside)
def test_value_outside_the_support_error(member: Any) -> None:
    d = member.make()
    value = torch.as_tensor(member.case.outside)
    value = value.double() if value.is_floating_point() else value
    with pytest.raises(DistributionError, match="support.*offending, the first"):
        d.log_prob(value)


@pytest.mark.contract("outside")
def test_value_of_wrong_type_error(member: Any) -> None:
    with pytest.raises(
        TypeError, match=f"{member.family.__name__}|Normal.*expected a value as a tensor, got list"
    ):
        member.make().log_prob([1.0])


@pytest.mark.contract("trace")
def test_log_prob_traces_and_replays(member: Any, unvalidated: None) -> None:
    arguments = member.tensors()
    names = [k for k, v in arguments.items() if isinstance(v, torch.Tensor)]
    x, other = member.make().sample(torch.Size([2]))

    def log_prob(value: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return member.make(**dict(zip(names, tensors, strict=True))).log_prob(value)

    tensors = [arguments[name] for name in names]
    graph = make_fx(log_prob)(x, *tensors)
    torch.testing.assert_close(graph(other, *tensors), log_prob(other, *tensors))


@pytest.mark.contract("trace")
def test_sample_traces_and_replays(member: Any, unvalidated: None) -> None:
    arguments = member.tensors()
    names = [k for k, v in arguments.items() if isinstance(v, torch.Tensor)]

    def draw(*tensors: torch.Tensor) -> torch.Tensor:
        return member.make(**dict(zip(names, tensors, strict=True))).expand_by([2])(torch.Size([3]))

    tensors = [arguments[name] for name in names]
    graph = make_fx(draw)(*tensors)
    torch.manual_seed(3)
    replayed = graph(*tensors)
    torch.manual_seed(3)
    torch.testing.assert_close(replayed, draw(*tensors))


@pytest.mark.contract("device")
def test_everything_stays_on_the_device(member: Any, device: torch.device) -> None:
    arguments = member.tensors(torch.float32)
    moved = {k: v.to(device) for k, v in arguments.items() if isinstance(v, torch.Tensor)}
    d = member.make(torch.float32, **moved)
    x = d.sample()
    log_prob = d.expand_by([2]).log_prob(x)
    assert x.device.type == torch.zeros(1).to(device).device.type
    assert log_prob.cpu().isfinite().all()
