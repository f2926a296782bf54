"""Stein variational gradient descent: its direction by formula, its particles on known posteriors."""

from __future__ import annotations

import pytest
import torch

from brancher import distributions as dist
from brancher import get_param_store, optim, plate, sample
from brancher.errors import InferenceError, InferenceTypeError, NonFiniteError, UnsupportedError
from brancher.infer import SVGD, IMQSteinKernel, RBFSteinKernel
from brancher.infer.svgd import SteinKernel

KERNELS = [RBFSteinKernel(), RBFSteinKernel(0.3), IMQSteinKernel(), IMQSteinKernel(1.0, -0.3, 2.0)]


def make(kernel, mode="univariate", model=lambda: sample("x", dist.Normal(0.0, 1.0)), count=5):
    return SVGD(model, kernel, optim.Adam({"lr": 0.1}), count, mode=mode)


@pytest.mark.parametrize("kernel", KERNELS)
def test_slope_of_a_kernel_is_its_derivative(kernel):
    torch.manual_seed(0)
    places = torch.randn(5, 3, dtype=torch.float64)
    log_kernel, slope = kernel.log_kernel_and_grad(places)
    assert log_kernel.shape == slope.shape == (5, 5, 3)
    # The bandwidth is held while a particle moves a little.
    squared = (places.unsqueeze(1) - places.unsqueeze(0)).square()
    rows, columns = torch.triu_indices(5, 5, 1)
    width = kernel.bandwidth_factor * squared[rows, columns].median(0).values / torch.tensor(6.0).log()

    def log_k(difference):
        ratio = difference.square() / width
        is_rbf = isinstance(kernel, RBFSteinKernel)
        return -ratio if is_rbf else kernel.beta * (kernel.alpha + ratio).log()

    difference = (places.unsqueeze(1) - places.unsqueeze(0)).requires_grad_()
    value = log_k(difference)
    torch.testing.assert_close(log_kernel, value.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(value.sum(), difference)[0])


@pytest.mark.parametrize("mode", ["univariate", "multivariate"])
def test_direction_is_the_sum_of_eq_8(mode):
    class Fixed(SteinKernel):
        def log_kernel_and_grad(self, particles):
            difference = particles.unsqueeze(1) - particles.unsqueeze(0)
            return -difference.square(), -2 * difference

    torch.manual_seed(1)
    places, slope = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    found = make(Fixed(), mode).direction(places, slope)

    def k(x, y):
        return (
            (-(x - y).square()).exp() if mode == "univariate" else (-(x - y).square().sum()).exp().expand(2)
        )

    for n in range(4):
        expected = torch.zeros(2, dtype=torch.float64)
        for m in range(4):
            other = places[m].clone().requires_grad_()
            kernel = k(other, places[n])
            # Each dimension's kernel repels along that dimension alone.
            by_dim = [torch.autograd.grad(kernel[d], other, retain_graph=True)[0][d] for d in range(2)]
            expected += kernel.detach() * slope[m] + torch.stack(by_dim)
        torch.testing.assert_close(found[n], expected / 4)


@pytest.mark.parametrize("mode", ["univariate", "multivariate"])
@pytest.mark.parametrize("kernel", [RBFSteinKernel(), IMQSteinKernel()], ids=["rbf", "imq"])
def test_particles_find_a_conjugate_posterior(kernel, mode):
    data = torch.tensor([1.0, 2.0, 3.0])

    def model(data):
        loc = sample("loc", dist.Normal(0.0, 2.0))
        with plate("row", 3):
            sample("x", dist.Normal(loc, 1.0), obs=data)

    torch.manual_seed(0)
    svgd = make(kernel, mode, model, 30)
    for _ in range(150):
        slopes = svgd.step(data)
    variance = 1.0 / (1.0 / 4.0 + 3.0)
    draws = svgd.get_named_particles()["loc"]
    assert draws.shape == (30,) and slopes["loc"] < 1e-2
    assert float(draws.mean()) == pytest.approx(6.0 * variance, abs=0.05)
    # Thirty particles stand a little closer than the posterior.
    assert float(draws.std()) == pytest.approx(variance**0.5, rel=0.2)


def test_particles_lie_in_the_sites_support_and_bear_its_labels():
    def model():
        with plate("row", coords=["a", "b"]):
            sample("rate", dist.Gamma(2.0, 1.0))

    svgd = make(RBFSteinKernel(), model=model)
    svgd.step()
    draws = svgd.get_named_particles()
    assert draws["rate"].shape == (5, 2) and bool((draws["rate"] > 0).all())
    assert list(draws.to_frame()) == ["rate[a]", "rate[b]"]
    assert get_param_store()["svgd_particles"].shape == (5, 2)


def test_gradient_that_is_not_finite_error_keeps_the_particles():
    svgd = make(RBFSteinKernel(), model=lambda bad: sample("x", dist.Normal(bad * 0.0, 1.0)))
    svgd.step(torch.tensor(1.0))
    before = get_param_store()["svgd_particles"].clone()
    with pytest.raises((NonFiniteError, ValueError)):
        svgd.step(torch.tensor(float("nan")))
    assert torch.equal(get_param_store()["svgd_particles"], before)


def test_argument_errors():
    with pytest.raises(InferenceError, match="num_particles > 1, got 1"):
        make(RBFSteinKernel(), count=1)
    with pytest.raises(InferenceError, match="mode as 'univariate' or 'multivariate'"):
        make(RBFSteinKernel(), "both")
    with pytest.raises(InferenceTypeError, match="a kernel such as RBFSteinKernel"):
        make(RBFSteinKernel)
    with pytest.raises(InferenceError, match="bandwidth_factor > 0"):
        RBFSteinKernel(-1.0)
    with pytest.raises(InferenceError, match="alpha > 0 and beta < 0"):
        IMQSteinKernel(beta=0.5)
    with pytest.raises(InferenceError, match="expected a step, got none yet"):
        make(RBFSteinKernel()).get_named_particles()


def test_discrete_site_without_a_finite_support_error():
    with pytest.raises(UnsupportedError, match="SVGD site 'k'"):
        make(RBFSteinKernel(), model=lambda: sample("k", dist.Poisson(2.0))).step()
