"""Learnable flows: Jacobians, inverses, and their place in models and guides."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import brancher.distributions as dist
from brancher import get_param_store, module, sample
from brancher.distributions.transforms import (
    BatchNorm,
    NeuralAutoregressive,
    Polynomial,
    SplineAutoregressive,
    affine_autoregressive,
    affine_coupling,
    block_autoregressive,
    householder,
    iterated,
    matrix_exponential,
    neural_autoregressive,
    permute,
    planar,
    polynomial,
    radial,
    spline,
    spline_autoregressive,
    spline_coupling,
    sylvester,
)
from brancher.errors import DistributionError, ParamError
from brancher.infer import SVI
from brancher.infer.autoguide import AutoNormalizingFlow
from brancher.nn import AutoRegressiveNN
from brancher.optim import Adam

FLOWS: dict[str, Callable[[], Any]] = {
    "affine autoregressive": lambda: affine_autoregressive(4, [16, 8]),
    "stable affine autoregressive": lambda: affine_autoregressive(4, [16], stable=True, sigmoid_bias=1.0),
    "block autoregressive": lambda: block_autoregressive(4, [3, 5]),
    "block autoregressive, elu": lambda: block_autoregressive(4, [3], "ELU", "normal"),
    "block autoregressive, leaky": lambda: block_autoregressive(4, [3], "LeakyReLU", "gated"),
    "householder": lambda: householder(4, 3),
    "matrix exponential": lambda: matrix_exponential(4),
    "radial": lambda: radial(4),
    "sylvester": lambda: sylvester(4),
    "polynomial": lambda: polynomial(4, [16, 8]),
    "neural autoregressive": lambda: neural_autoregressive(4, [16], width=5),
    "neural autoregressive, tanh": lambda: neural_autoregressive(4, [16], "tanh", 5),
    "neural autoregressive, elu": lambda: neural_autoregressive(4, [16], "ELU", 5),
    "neural autoregressive, leaky": lambda: neural_autoregressive(4, [16], "LeakyReLU", 5),
    "affine coupling": lambda: affine_coupling(4),
    "planar": lambda: planar(4),
    "spline": lambda: spline(4),
    "spline autoregressive": lambda: spline_autoregressive(4, count_bins=5),
    "spline coupling": lambda: spline_coupling(4, count_bins=5, bound=2.0),
    "linear spline": lambda: spline(4, order="linear"),
    "linear spline autoregressive": lambda: spline_autoregressive(4, count_bins=5, order="linear"),
    "linear spline coupling": lambda: spline_coupling(4, count_bins=5, bound=2.0, order="linear"),
    "several": lambda: iterated(2, affine_coupling, 4),
}


def wild(kind: str) -> Any:
    """A flow far from the identity, in double precision."""
    torch.manual_seed(1)
    flow = FLOWS[kind]().double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return flow


@pytest.mark.parametrize("kind", FLOWS)
def test_slope_is_the_jacobian(kind: str) -> None:
    flow = wild(kind)
    for x in 1.5 * torch.randn(5, 4, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(flow, x)
        slope = flow.log_abs_det_jacobian(x, flow(x))
        torch.testing.assert_close(slope, torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("kind", [kind for kind in FLOWS if kind != "planar" and "block" not in kind])
def test_inverse_goes_back(kind: str) -> None:
    flow, x = wild(kind), 2.0 * torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(flow.inv(flow(x).clone()), x, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", FLOWS)
def test_draws_have_the_density_of_the_change_of_variables(kind: str) -> None:
    flow = wild(kind)
    base = dist.Normal(torch.zeros(4, dtype=torch.float64), 1.0).to_event(1)
    x = base.sample((3,))
    law = dist.TransformedDistribution(base, [flow])
    y = flow(x)
    torch.testing.assert_close(law.log_prob(y), base.log_prob(x) - flow.log_abs_det_jacobian(x, y))


@pytest.mark.parametrize(
    "kind",
    [
        "affine autoregressive",
        "polynomial",
        "neural autoregressive",
        "sylvester",
        "spline",
        "linear spline",
        "spline coupling",
    ],
)
def test_flow_is_staged(kind: str) -> None:
    flow, x = FLOWS[kind](), torch.randn(3, 4)
    graph = make_fx(lambda x: flow.log_abs_det_jacobian(x, flow(x)))(x)
    torch.testing.assert_close(graph(x + 0.1), flow.log_abs_det_jacobian(x + 0.1, x))


@pytest.mark.parametrize("kind", FLOWS)
def test_flow_is_copied_and_pickled_after_a_draw(kind: str) -> None:
    flow, x = FLOWS[kind](), torch.randn(2, 4)
    y = flow(x)
    for twin in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        torch.testing.assert_close(twin(x), y)
        assert len(list(twin.parameters())) == len(list(flow.parameters())) > 0


def test_spline_is_the_identity_outside_its_bound() -> None:
    x = torch.tensor([[-5.0, 3.1, 4.0, 100.0]])
    flow = spline(4)
    assert torch.equal(flow(x), x) and flow.log_abs_det_jacobian(x, x).item() == 0.0


def test_outputs_see_the_entries_before_them_alone() -> None:
    order = torch.tensor([2, 0, 3, 1])
    network = AutoRegressiveNN(4, [16, 16], (1,), permutation=order, skip_connections=True)
    jacobian = torch.autograd.functional.jacobian(network, torch.randn(4))[order][:, order]
    assert torch.equal(jacobian, jacobian.tril(-1)) and bool((jacobian.tril(-1) != 0).any())


def test_parameters_of_several_sizes() -> None:
    first, second = AutoRegressiveNN(3, [8], (2, 1))(torch.zeros(5, 3))
    assert first.shape == (5, 2, 3) and second.shape == (5, 1, 3)


def test_permute_is_a_reordering() -> None:
    assert permute(5)(torch.arange(5.0)).sort().values.tolist() == [0, 1, 2, 3, 4]


def test_flow_learns_a_density_of_data() -> None:
    flow = spline_coupling(2, hidden_dims=[16])
    law = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [flow])
    angle = torch.rand(100) * 3.0
    data = torch.stack([angle.cos(), angle.sin()], -1) * 2.0 + 0.1 * torch.randn(100, 2)

    def model() -> None:
        module("flow", flow)
        with dist.validation_enabled(False):
            sample("x", law.expand([100]).to_event(1), obs=data)

    svi = SVI(model, lambda: None, Adam({"lr": 0.02}))
    losses = [svi.step() for _ in range(40)]
    assert losses[-1] < losses[0] - 50.0
    assert any(name.startswith("flow.") for name in get_param_store())


def test_flows_serve_a_guide() -> None:
    def model() -> torch.Tensor:
        return sample("x", dist.Normal(torch.ones(3), 1.0).to_event(1))

    svi = SVI(model, AutoNormalizingFlow(model, partial(iterated, 2, affine_autoregressive)))
    assert all(torch.isfinite(torch.tensor(svi.step())) for _ in range(3))


def test_inverse_of_planar_error() -> None:
    with pytest.raises(DistributionError, match="Planar: expected the last draw"):
        planar(2).inv(torch.zeros(2))


def test_inverse_and_options_of_block_flows_error() -> None:
    with pytest.raises(DistributionError, match="BlockAutoregressive: expected the last draw"):
        block_autoregressive(2).inv(torch.zeros(2))
    with pytest.raises(DistributionError, match="activation of .*got 'relu'"):
        block_autoregressive(2, activation="relu")  # type: ignore[arg-type]
    with pytest.raises(DistributionError, match="count_transforms > 0, got 0"):
        householder(2, 0)


@pytest.mark.parametrize("residual", [None, "gated"])
def test_outputs_of_a_block_flow_rise_with_their_own_input_and_see_earlier_ones(residual: Any) -> None:
    torch.manual_seed(0)
    flow = block_autoregressive(4, [3, 2], residual=residual)
    jacobian = torch.autograd.functional.jacobian(flow, torch.randn(4))
    assert bool((jacobian.triu(1) == 0).all()) and bool((jacobian.diagonal() > 0).all())
    assert bool((jacobian.tril(-1) != 0).any())


def test_sizes_of_network_error() -> None:
    with pytest.raises(ParamError, match=r"AutoRegressiveNN: expected sizes as ints > 0, got \(3, 0, 1, 1\)"):
        AutoRegressiveNN(3, [0])


def test_cleared_cache_holds_no_graph() -> None:
    flow = affine_autoregressive(2)
    law = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0), [iterated(1, lambda: flow)])
    assert law.rsample() is flow._cached_x_y[1]
    law.clear_cache()
    assert flow._cached_x_y == (None, None)


@pytest.mark.parametrize(
    "kind", ["sylvester", "polynomial", "neural autoregressive", "neural autoregressive, elu"]
)
def test_inverse_has_the_gradients_of_the_jacobian(kind: str) -> None:
    flow, x = wild(kind), torch.randn(4, dtype=torch.float64)
    forwards = torch.autograd.functional.jacobian(flow, x)
    backwards = torch.autograd.functional.jacobian(flow.inv, flow(x).detach().clone())
    torch.testing.assert_close(backwards, torch.linalg.inv(forwards), rtol=1e-6, atol=1e-8)


def test_inverse_has_the_gradients_of_the_parameters() -> None:
    flow, x = wild("neural autoregressive"), torch.randn(4, dtype=torch.float64)
    y = flow(x).detach().clone()
    parameter = next(flow.parameters())
    (got,) = torch.autograd.grad(flow.inv(y).sum(), parameter)
    step = 1e-6 * torch.randn_like(parameter)
    with torch.no_grad():
        parameter += step
        above = flow.inv(y.clone()).sum()
        parameter -= 2 * step
        below = flow.inv(y.clone()).sum()
    torch.testing.assert_close((got * step).sum(), (above - below) / 2, rtol=1e-4, atol=1e-12)


def test_stable_flow_mixes_its_input_with_a_mean() -> None:
    flow, x = affine_autoregressive(3, [8], stable=True, sigmoid_bias=0.5), torch.randn(5, 3)
    mean, free = flow.arn(x)
    gate = torch.sigmoid(free + 0.5)
    torch.testing.assert_close(flow(x), gate * x + (1.0 - gate) * mean)


def test_polynomial_of_degree_zero_is_a_line() -> None:
    network = AutoRegressiveNN(3, [], [2])
    flow, x = Polynomial(network, 3, 0, 2), torch.randn(5, 3)
    slopes = network(x).square().sum(-2)
    torch.testing.assert_close(flow(x), flow.c + slopes * x)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "ELU", "LeakyReLU"])
def test_neural_flow_of_one_unit_is_a_line(activation: Any) -> None:
    network = AutoRegressiveNN(3, [], [1, 1, 1])
    flow, x = NeuralAutoregressive(network, 1, activation), 10.0 * torch.randn(5, 3)
    free_a, _, b = network(x)
    torch.testing.assert_close(flow(x), torch.nn.functional.softplus(free_a) * x + b)


def test_batch_norm_goes_back_in_evaluation_mode() -> None:
    flow = BatchNorm(3).double()
    data = 2.0 + 3.0 * torch.randn(50, 3, dtype=torch.float64)
    for _ in range(100):
        flow._inverse(data)
    flow.eval()
    torch.testing.assert_close(flow(flow._inverse(data)), data)
    noise = flow._inverse(data)
    torch.testing.assert_close(noise.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-3)
    jacobian = torch.autograd.functional.jacobian(flow, noise[0])
    torch.testing.assert_close(flow.log_abs_det_jacobian(noise[0], data[0]), jacobian.diagonal().log())


def test_batch_norm_scores_a_batch_by_its_own_moments() -> None:
    flow = BatchNorm(2, momentum=0.25)
    with torch.no_grad():
        flow.gamma.copy_(torch.tensor([0.5, 2.0]))
        flow.beta.copy_(torch.tensor([0.1, -0.3]))
    data = torch.tensor([[0.0, 1.0], [2.0, 1.5], [4.0, 5.0]])
    law = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [flow])
    spread = (data.var(0) + 1e-5).sqrt()
    noise = (data - data.mean(0)) / spread * flow.gamma + flow.beta
    expected = (dist.Normal(0.0, 1.0).log_prob(noise) + (flow.gamma / spread).log()).sum(-1)
    torch.testing.assert_close(law.log_prob(data), expected)
    torch.testing.assert_close(flow.moving_mean, 0.25 * data.mean(0))
    torch.testing.assert_close(flow.moving_variance, 0.75 + 0.25 * data.var(0))


def test_batch_norm_of_one_row_error() -> None:
    with pytest.raises(DistributionError, match="at least two rows in training mode, got 1; call eval"):
        BatchNorm(2)._inverse(torch.zeros(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchNorm(2, momentum=1.5),
        lambda: BatchNorm(2, epsilon=0.0),
        lambda: Polynomial(None, 2, -1, 3),
        lambda: Polynomial(None, 2, 2, 0),
        lambda: neural_autoregressive(2, activation="relu"),  # type: ignore[arg-type]
        lambda: sylvester(3, 0),
    ],
)
def test_flow_argument_error(make: Callable[[], Any]) -> None:
    with pytest.raises(DistributionError, match="expected .*, got"):
        make()


@pytest.mark.parametrize("order", ["quadratic", "linear"])
def test_spline_goes_through_its_knots(order: str) -> None:
    flow = spline(2, count_bins=4, order=order).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn_like(parameter))
    knots = flow._knots(torch.zeros(2, dtype=torch.float64))
    for i in range(1, 4):
        y, log_slope = knots.bend(knots.x[:, i], False)
        torch.testing.assert_close(y, knots.y[:, i])
        torch.testing.assert_close(log_slope, knots.slope[:, i].log(), rtol=1e-6, atol=1e-6)


def test_spline_of_zeros_is_the_identity() -> None:
    flow, x = spline(3, order="linear"), torch.randn(5, 3)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
    torch.testing.assert_close(flow(x), x)


def test_order_follows_from_the_network() -> None:
    network = AutoRegressiveNN(3, [8], [4, 4, 3, 4])
    assert SplineAutoregressive(3, network, count_bins=4).order == "linear"
    assert SplineAutoregressive(3, AutoRegressiveNN(3, [8], [4, 4, 3]), count_bins=4).order == "quadratic"
    with pytest.raises(DistributionError, match="3 parts for order='quadratic', got 4"):
        SplineAutoregressive(3, network, count_bins=4, order="quadratic")(torch.zeros(3))
    with pytest.raises(DistributionError, match=r"order of \['quadratic', 'linear'\], got 'cubic'"):
        spline(3, order="cubic")
