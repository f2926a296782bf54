"""Conditional flows: Jacobians, inverses, contexts, and what they learn."""

from __future__ import annotations

import pytest
import torch

from brancher import distributions as dist
from brancher import module, optim, plate, sample
from brancher.distributions import transforms as T
from brancher.errors import DistributionError
from brancher.infer import SVI
from brancher.nn import AutoRegressiveNN, ConditionalAutoRegressiveNN, ConditionalDenseNN

FLOWS = {
    "affine coupling": lambda: T.conditional_affine_coupling(4, 3),
    "affine autoregressive": lambda: T.conditional_affine_autoregressive(4, 3, [16, 8]),
    "planar": lambda: T.conditional_planar(4, 3),
    "spline": lambda: T.conditional_spline(4, 3, count_bins=5),
    "spline autoregressive": lambda: T.conditional_spline_autoregressive(4, 3, count_bins=5),
    "linear spline": lambda: T.conditional_spline(4, 3, count_bins=5, order="linear"),
    "linear spline autoregressive": lambda: T.conditional_spline_autoregressive(
        4, 3, count_bins=5, order="linear"
    ),
    "neural autoregressive": lambda: T.conditional_neural_autoregressive(4, 3, [8], width=5),
    "householder": lambda: T.conditional_householder(4, 3, count_transforms=2),
    "householder, one plane": lambda: T.conditional_householder(4, 3),
    "matrix exponential": lambda: T.conditional_matrix_exponential(4, 3),
    "radial": lambda: T.conditional_radial(4, 3),
    "several": lambda: T.ConditionalComposeTransformModule(
        [T.conditional_spline(4, 3), T.permute(4), T.conditional_affine_coupling(4, 3)]
    ),
}


def wild(kind):
    """A flow far from the identity, in double precision."""
    torch.manual_seed(1)
    flow = FLOWS[kind]().double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return flow


@pytest.mark.parametrize("kind", FLOWS)
def test_slope_is_the_jacobian_and_the_inverse_leads_back(kind):
    flow = wild(kind)
    for _ in range(3):
        x, context = torch.randn(4, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
        fixed = flow.condition(context)
        jacobian = torch.autograd.functional.jacobian(fixed, x)
        y = fixed(x)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(fixed.log_abs_det_jacobian(x, y), expected)
        torch.testing.assert_close(flow.condition(context).inv(y.clone()), x)


@pytest.mark.parametrize("kind", FLOWS)
def test_rows_of_contexts_are_single_contexts(kind):
    flow = wild(kind)
    x, context = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    together = flow.condition(context)(x)
    alone = torch.stack([flow.condition(c)(row) for row, c in zip(x, context, strict=True)])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, flow.condition(context.flip(0))(x))
    # One vector under several contexts.
    torch.testing.assert_close(flow.condition(context)(x[0])[2], flow.condition(context[2])(x[0]))


@pytest.mark.parametrize("kind", FLOWS)
def test_every_parameter_learns(kind):
    flow = wild(kind)
    # No reflection changes the density of a round law.
    base = dist.Normal(torch.zeros(4, dtype=torch.float64), torch.arange(1.0, 5.0).double()).to_event(1)
    law = dist.ConditionalTransformedDistribution(base, [flow])
    draws = law.condition(torch.randn(6, 3, dtype=torch.float64)).log_prob(
        torch.randn(6, 4, dtype=torch.float64)
    )
    draws.sum().backward()
    assert draws.shape == (6,)
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in flow.parameters())


def test_autoregressive_network_sees_earlier_entries_and_the_context():
    network = ConditionalAutoRegressiveNN(4, 2, [16], [1], skip_connections=True)
    context = torch.randn(2)
    seen = torch.autograd.functional.jacobian(lambda x: network(x, context), torch.randn(4))
    assert bool((seen.triu() == 0).all()) and bool((seen.tril(-1) != 0).any())
    by_context = torch.autograd.functional.jacobian(lambda c: network(torch.randn(4), c), context)
    assert bool((by_context.abs().sum(-1) > 0).all())


def test_autoregressive_network_without_hidden_layers_takes_its_context():
    network = ConditionalAutoRegressiveNN(3, 2, [])
    with torch.no_grad():
        for each in (network.from_context.weight, *network.to_output.parameters()):
            each.zero_()
    plain = AutoRegressiveNN(3, [])
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k.startswith("layers")})
    x = torch.randn(5, 3)
    for ours, theirs in zip(network(x, torch.randn(2)), plain(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dense_network_joins_input_and_context():
    network = ConditionalDenseNN(2, 3, [8], [2, 1])
    first, second = network(torch.ones(5, 1, 2), torch.ones(4, 3))
    assert first.shape == (5, 4, 2) and second.shape == (5, 4, 1)


def test_conditional_base_and_plain_transforms_mix():
    class Shifted(dist.ConditionalDistribution):
        def condition(self, context):
            return dist.Normal(context, 1.0)

    law = dist.ConditionalTransformedDistribution(Shifted(), [dist.transforms.ExpTransform()])
    value, context = torch.tensor(2.0), torch.tensor(0.3)
    torch.testing.assert_close(
        law.condition(context).log_prob(value), dist.LogNormal(0.3, 1.0).log_prob(value)
    )
    law.clear_cache()
    dist.ConditionalTransformedDistribution(
        dist.Normal(torch.zeros(2), 1.0), [T.spline(2), T.conditional_spline(2, 1)]
    ).clear_cache()


def test_flow_in_a_model_learns_a_conditional_density():
    torch.manual_seed(0)
    x = torch.randn(200, 1)
    y = 2.0 * x + 0.5 * torch.randn(200, 1)
    flow = T.conditional_affine_autoregressive(1, 1, [8])
    law = dist.ConditionalTransformedDistribution(dist.Normal(torch.zeros(1), 1.0), [flow])

    def model():
        module("flow", flow)
        with plate("row", 200):
            sample("y", law.condition(x), obs=y)

    svi = SVI(model, lambda: None, optim.Adam({"lr": 0.02}), compile=False)
    losses = [svi.step() for _ in range(300)]
    best = -dist.Normal(2.0 * x, 0.5).log_prob(y).sum()
    # The true law's loss, up to what 200 rows leave open.
    assert losses[-1] < losses[0] and abs(losses[-1] - float(best)) < 12.0


def test_other_spline_orders_error():
    for make in (T.conditional_spline, T.conditional_spline_autoregressive):
        with pytest.raises(DistributionError, match=r"order of \['quadratic', 'linear'\], got 'cubic'"):
            make(2, 1, order="cubic")
