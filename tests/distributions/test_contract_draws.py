"""Every registered family: draws follow the density, and their gradients are right."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats as st
import torch

from brancher.distributions import Normal, Poisson
from brancher.errors import DistributionError

N = 20_000
# About 400 coordinates are compared at |z| < 5.5 (two-sided 4e-8 each): a false alarm in 6e4 seeds.
Z = 5.5


def assert_mean(draws: torch.Tensor, expected: torch.Tensor) -> None:
    error = draws.std(0) / draws.shape[0] ** 0.5
    z = (draws.mean(0) - expected) / error.clamp(min=1e-12)
    assert bool((z.abs() < Z).all()), f"z = {z}"


@pytest.mark.contract("moments")
def test_mean_of_draws(member: Any) -> None:
    d = member.make()
    assert_mean(d.sample(torch.Size([N])), d.mean)


@pytest.mark.contract("moments")
def test_variance_of_draws(member: Any) -> None:
    d = member.make()
    draws = d.sample(torch.Size([N]))
    assert_mean((draws - d.mean) ** 2, d.variance)


def can_be_fitted(member: Any) -> bool:
    d = member.make()
    return d.event_shape == () and (d.support.is_discrete or _cdf(member) is not None)


def _cdf(member: Any) -> Any:
    """The distribution function, scipy's where there is no other; None where there is none."""
    d = member.make()
    try:
        d.cdf(d.sample())
    except NotImplementedError:
        if member.case.scipy is None:
            return None
        return lambda x: torch.as_tensor(member.scipy().cdf(x.numpy()))
    return d.cdf


@pytest.mark.contract("fit", only=can_be_fitted)
def test_draws_fit_the_distribution(member: Any) -> None:
    """p > 1e-6 in each of about 150 tests: a false alarm in 6e3 seeds."""
    d = member.make()
    draws = d.sample(torch.Size([N])).reshape(N, -1)
    if d.support.is_discrete:
        for column, flat in enumerate(draws.unbind(1)):
            values, counts = flat.unique(return_counts=True)
            full = values.reshape(-1, *[1] * len(d.batch_shape)).expand(-1, *d.batch_shape)
            expected = N * d.log_prob(full).exp().reshape(len(values), -1)[:, column]
            keep = expected > 10
            rest = N - expected[keep].sum(), N - counts[keep].sum()
            observed = torch.cat([counts[keep].double(), rest[1].double().reshape(1)])
            wanted = torch.cat([expected[keep], rest[0].clamp(min=1e-3).reshape(1)])
            chi2 = ((observed - wanted) ** 2 / wanted.clamp(min=1.0)).sum()
            assert st.chi2.sf(float(chi2), len(observed)) > 1e-6
        return
    u = _cdf(member)(d.sample(torch.Size([N]))).reshape(N, -1)
    for column in u.unbind(1):
        assert st.kstest(column.numpy(), "uniform").pvalue > 1e-6


#: The mean does not depend on the matrix alone; `test_multivariate.py` looks at these.
MATRICES = {"covariance_matrix", "precision_matrix", "scale_tril", "cov_factor"}


def has_pathwise_mean(member: Any) -> bool:
    if "moments" in member.case.skip or MATRICES & member.tensors().keys():
        return False
    return bool(member.make().has_rsample)


@pytest.mark.contract("rsample", only=has_pathwise_mean)
def test_gradient_of_draws_is_the_gradient_of_the_mean(member: Any) -> None:
    """Pathwise gradients of n draws average to the gradient of the exact mean."""
    d = member.make()
    arguments = member.tensors()
    names = [k for k, v in arguments.items() if isinstance(v, torch.Tensor)]
    exact = {name: arguments[name].clone().requires_grad_() for name in names}
    mean = member.make(**exact).mean
    wanted = torch.autograd.grad(mean.sum(), list(exact.values()), allow_unused=True, materialize_grads=True)
    copies = {
        name: arguments[name]
        .expand(N, *d.batch_shape, *_event(d, name, arguments[name]))
        .clone()
        .requires_grad_()
        for name in names
    }
    draws = member.make(**copies).rsample()
    grads = torch.autograd.grad(draws.sum(), list(copies.values()), allow_unused=True, materialize_grads=True)
    for name, got, expected in zip(names, grads, wanted, strict=True):
        axes = got.dim() - 1 - arguments[name].dim()
        summed = got.flatten(1, axes).sum(1) if axes > 0 else got
        for axis, size in enumerate(arguments[name].shape):
            if size == 1 and summed.shape[1 + axis] > 1:
                summed = summed.sum(1 + axis, keepdim=True)
        assert_mean(summed, expected)


def _event(d: Any, name: str, value: torch.Tensor) -> tuple[int, ...]:
    constraint = d.arg_constraints.get(name)
    event_dim = constraint.event_dim if constraint is not None else max(0, value.dim() - len(d.batch_shape))
    return tuple(value.shape[value.dim() - event_dim :])


@pytest.mark.contract("support")
def test_draws_lie_in_the_support(member: Any) -> None:
    d = member.make()
    assert bool(d.support.check(d.sample(torch.Size([1000]))).all())


@pytest.mark.contract("seed")
def test_same_seed_gives_the_same_draw(member: Any) -> None:
    d = member.make()
    torch.manual_seed(5)
    first = d.sample(torch.Size([3]))
    torch.manual_seed(5)
    assert torch.equal(first, d.sample(torch.Size([3])))


@pytest.mark.contract("sample")
def test_sample_carries_no_gradient(member: Any) -> None:
    arguments = member.tensors()
    leaves = {
        k: v.clone().requires_grad_()
        for k, v in arguments.items()
        if isinstance(v, torch.Tensor) and k != "total_count"
    }
    assert not member.make(**leaves).sample().requires_grad


#: Continuous families whose draws carry no gradient; discrete ones whose draws do.
SCORED = {"Empirical", "MixtureSameFamily", "Unit", "VonMises"}
STRAIGHT_THROUGH = {
    "OneHotCategoricalStraightThrough",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategoricalStraightThrough",
}


@pytest.mark.contract("sample")
def test_families_say_whether_draws_carry_gradients(member: Any) -> None:
    d, name = member.make(), member.family.__name__
    expected = name in STRAIGHT_THROUGH if d.support.is_discrete else name not in SCORED
    assert bool(d.has_rsample) == expected


@pytest.mark.contract("rsample_switch", only=lambda member: member.make().has_rsample)
def test_gradients_of_draws_can_be_switched_off(member: Any) -> None:
    d = member.make().has_rsample_(False)
    wider = d.expand(torch.Size([3]) + d.batch_shape)
    for law in (d, wider, wider.to_event(1), wider.mask(True)):
        assert law.has_rsample is False
    assert member.make().has_rsample


def test_gradients_that_a_family_lacks_error() -> None:
    with pytest.raises(DistributionError, match=r"Poisson: expected has_rsample_\(False\), .* got True"):
        Poisson(1.0).has_rsample_(True)
    assert Normal(0.0, 1.0).has_rsample_(False).has_rsample_(True).has_rsample
