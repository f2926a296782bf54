"""Every registered family: the log-density is the right function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import biject_to

#: What every other family of scalars has; `test_these_families_have_no_*` holds that these do not.
NO_CDF = {
    "AffineBeta", "Beta", "Delta", "Empirical", "FisherSnedecor", "LogitRelaxedBernoulli", "MaskedMixture",
    "RelaxedBernoulli", "SoftAsymmetricLaplace", "StudentT", "VonMises",
}  # fmt: skip
ICDF = {
    "AsymmetricLaplace", "Cauchy", "ContinuousBernoulli", "Exponential", "GeneralizedPareto", "Gumbel",
    "HalfCauchy", "HalfNormal", "Kumaraswamy", "Laplace", "LogNormal", "Logistic", "LogitNormal",
    "NanMaskedNormal", "Normal", "Pareto", "SkewLogistic", "SoftLaplace", "TransformedDistribution",
    "TruncatedDistribution", "TruncatedNormal", "Uniform", "Weibull",
}  # fmt: skip
ENUMERABLE = {
    "Bernoulli", "BetaBinomial", "Binomial", "Categorical", "DiscreteUniform", "OneHotCategorical",
    "OneHotCategoricalStraightThrough", "OrderedLogistic", "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategoricalStraightThrough", "ZeroInflatedDistribution",
}  # fmt: skip


def is_scalar(member: Any) -> bool:
    return member.make().event_shape == ()


def is_continuous_scalar(member: Any) -> bool:
    return is_scalar(member) and not member.make().support.is_discrete


def has_cdf(member: Any) -> bool:
    return is_continuous_scalar(member) and member.family.__name__ not in NO_CDF


def has_icdf(member: Any) -> bool:
    return member.family.__name__ in ICDF


def is_enumerable(member: Any) -> bool:
    return member.family.__name__ in ENUMERABLE


@pytest.mark.contract("scipy", only=lambda member: member.case.scipy is not None)
def test_log_prob_equals_scipy(member: Any) -> None:
    d = member.make()
    x = d.sample(torch.Size([50]))
    reference = member.scipy()
    log_density = getattr(reference, "logpmf", None) or reference.logpdf
    # float64 on both sides, and scipy's own formulas lose a few digits
    expected = np.asarray(log_density(x.numpy()))
    np.testing.assert_allclose(d.log_prob(x).numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.contract("normalised", only=is_scalar)
def test_density_integrates_to_one(member: Any) -> None:
    d = member.make()
    if d.support.is_discrete:
        top = (
            float((d.mean + 40 * d.variance.sqrt() + 40).max()) if "moments" not in member.case.skip else 100
        )
        values = torch.arange(0.0, min(top, 1e5), dtype=torch.float64)
        values = values.reshape(-1, *[1] * len(d.batch_shape)).expand(-1, *d.batch_shape)
        inside = d.support.check(values)
        low = getattr(d.support, "lower_bound", 0.0)
        log_prob = d.log_prob(torch.where(inside, values, torch.as_tensor(low, dtype=torch.float64)))
        total = torch.where(inside, log_prob.exp(), 0.0).sum(0)
    else:
        # Trapezoidal rule after x = T(sinh(sinh-like map)): doubly exponential decay at both ends.
        t = torch.linspace(-4.2, 4.2, 60001, dtype=torch.float64)
        u = torch.sinh(torch.sinh(t) * 0.5 * torch.pi)
        slope = torch.cosh(torch.sinh(t) * 0.5 * torch.pi) * torch.cosh(t) * 0.5 * torch.pi
        shape = (-1, *[1] * len(d.batch_shape))
        transform = biject_to(d.support)
        # A logistic or exponential map needs a window no wider than its dynamic range.
        if transform is not biject_to(torch.distributions.constraints.real):
            u = torch.linspace(-600.0, 600.0, 120001, dtype=torch.float64)
            t, slope = u, torch.ones_like(u)
        u = u.reshape(shape).expand(-1, *d.batch_shape)
        x = transform(u)
        density = d.log_prob(x) + transform.log_abs_det_jacobian(u, x)
        integrand = density.exp() * slope.reshape(shape)
        total = torch.trapezoid(torch.where(integrand.isfinite(), integrand, 0.0), t, dim=0)
    # The grid resolves kinks and endpoint singularities to about 1e-5.
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)


@pytest.mark.contract("cdf", only=has_cdf)
def test_cdf_is_the_integral_of_the_density(member: Any) -> None:
    d = member.make()
    x = d.sample(torch.Size([20])).requires_grad_()
    f = d.cdf(x)
    (slope,) = torch.autograd.grad(f.sum(), x)
    torch.testing.assert_close(slope, d.log_prob(x).exp().detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.contract("cdf", only=lambda member: is_continuous_scalar(member) and not has_cdf(member))
def test_these_families_have_no_cdf(member: Any) -> None:
    d = member.make()
    with pytest.raises(NotImplementedError):
        d.cdf(d.sample())


@pytest.mark.contract("icdf", only=lambda member: not has_icdf(member))
def test_these_families_have_no_icdf(member: Any) -> None:
    d = member.make()
    with pytest.raises(NotImplementedError):
        d.icdf(torch.full(d.batch_shape, 0.3, dtype=torch.float64))


@pytest.mark.contract("icdf", only=has_icdf)
def test_icdf_inverts_the_cdf(member: Any) -> None:
    d = member.make()
    p = torch.tensor([0.001, 0.2, 0.5, 0.7, 0.999], dtype=torch.float64)
    p = p.reshape(-1, *[1] * len(d.batch_shape)).expand(-1, *d.batch_shape)
    again = d.cdf(d.icdf(p))
    torch.testing.assert_close(again, p, rtol=1e-9, atol=1e-12)


@pytest.mark.contract("gradient")
def test_gradient_of_log_prob_equals_finite_differences(member: Any) -> None:
    arguments = member.tensors()
    names = [k for k, v in arguments.items() if isinstance(v, torch.Tensor) and k not in ("total_count",)]
    d = member.make()
    x = d.sample()
    leaves = [arguments[name].clone().requires_grad_() for name in names]
    is_free = not d.support.is_discrete and d.support.event_dim == 0
    if is_free:
        leaves.append(x.clone().requires_grad_())

    def log_prob(*values: torch.Tensor) -> torch.Tensor:
        changes = dict(zip(names, values, strict=False))
        for name, value in changes.items():
            if name in ("covariance_matrix", "precision_matrix"):
                changes[name] = 0.5 * (value + value.mT)  # a difference must stay symmetric
            if name == "scale_tril":
                changes[name] = value.tril()
        return member.make(validate_args=False, **changes).log_prob(values[-1] if is_free else x)

    if member.case.build is not None:

        def log_prob(*values: torch.Tensor) -> torch.Tensor:
            changed = member.make(**dict(zip(names, values, strict=False)))
            return changed.log_prob(values[-1] if is_free else x)

    assert torch.autograd.gradcheck(log_prob, leaves, rtol=1e-4, atol=1e-6)


@pytest.mark.contract("enumerate", only=is_enumerable)
def test_enumerated_support_has_probability_one(member: Any) -> None:
    d = member.make()
    total = d.log_prob(d.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.contract("enumerate", only=is_enumerable)
def test_unexpanded_support_broadcasts_to_the_expanded_one(member: Any) -> None:
    d = member.make()
    values = d.enumerate_support(expand=False)
    assert values.shape[1:] == torch.Size([1] * len(d.batch_shape)) + d.event_shape
    assert torch.equal(values.expand(d.enumerate_support().shape), d.enumerate_support())


@pytest.mark.contract("enumerate")
def test_enumerable_families_say_so(member: Any) -> None:
    assert bool(member.make().has_enumerate_support) == is_enumerable(member)
