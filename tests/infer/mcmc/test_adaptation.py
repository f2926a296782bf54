"""Step size, mass matrix and windows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from brancher.infer.mcmc import mass, stepsize
from brancher.infer.mcmc.chees import Trajectory, criterion_gradient, halton, principal_direction
from brancher.infer.mcmc.integrator import Phase, value_and_grad
from brancher.infer.mcmc.warmup import windows

DRAWS = torch.randn(3, 400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_dual_averaging_finds_the_step_of_the_target():
    # A made-up law, acceptance = exp(-step): the target 0.8 is met at -log(0.8). No noise.
    state = stepsize.start(torch.ones(2, dtype=torch.float64))
    for _ in range(2000):
        state = stepsize.update(state, torch.exp(-state.log_step.exp()), 0.8)
    found = stepsize.settle(state).log_step.exp()
    assert torch.allclose(found, torch.full_like(found, -math.log(0.8)), rtol=0.02)


def test_settle_without_updates_keeps_the_step():
    assert float(stepsize.settle(stepsize.start(torch.tensor([0.3]))).log_step.exp()) == pytest.approx(0.3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_reasonable_step_size_follows_the_scale(scale):
    gradient = value_and_grad(lambda x: -0.5 * (x / scale).square().sum(-1))
    x = torch.full((2, 3), scale, dtype=torch.float64)
    value, grad = gradient(x)
    metric = mass.unit_metric(2, 3, False, x)
    momentum = torch.ones_like(x)
    found = stepsize.reasonable_step_size(
        Phase(x, momentum, grad, value), metric, gradient, torch.ones(2).double()
    )
    assert bool((found > 0.1 * scale).all() and (found < 10 * scale).all())


@pytest.mark.parametrize("dense", [False, True])
def test_moments_merged_in_parts_are_those_of_the_whole(dense):
    parts = mass.no_moments(3, 4, dense, DRAWS)
    for piece in DRAWS.split([1, 150, 249], dim=1):
        parts = mass.merge(parts, piece)
    whole = mass.merge(mass.no_moments(3, 4, dense, DRAWS), DRAWS)
    assert torch.allclose(parts.second, whole.second, rtol=1e-12) and torch.allclose(parts.mean, whole.mean)


def test_metric_from_draws_is_the_shrunk_variance():
    metric = mass.metric_from_draws(mass.merge(mass.no_moments(3, 4, False, DRAWS), DRAWS))
    assert torch.allclose(metric.inverse, DRAWS.var(1) * 400 / 405 + 1e-3 * 5 / 405, rtol=1e-12)


def test_dense_metric_is_the_shrunk_covariance_with_its_root():
    metric = mass.metric_from_draws(mass.merge(mass.no_moments(3, 4, True, DRAWS), DRAWS))
    expected = torch.stack([torch.cov(chain.T) for chain in DRAWS]) * 400 / 405 + 1e-3 * 5 / 405 * torch.eye(
        4
    )
    assert torch.allclose(metric.inverse, expected, rtol=1e-10)
    assert torch.allclose(metric.root @ metric.root.mT, torch.linalg.inv(expected), rtol=1e-10, atol=1e-12)


def test_metric_from_gradients_is_exact_for_a_normal():
    # For a normal with sd s the gradient is -x / s**2: any two draws give the variance s**2.
    scale = torch.tensor([0.1, 1.0, 10.0, 3.0], dtype=torch.float64)
    draws = DRAWS[:, :5] * scale
    nothing = mass.no_moments(3, 4, False, DRAWS)
    metric = mass.metric_from_gradients(mass.merge(nothing, draws), mass.merge(nothing, -draws / scale**2))
    assert torch.allclose(metric.inverse, (scale**2).expand(3, 4), rtol=1e-10)


@pytest.mark.parametrize("steps", [0, 1, 19, 20, 50, 149, 150, 200, 500, 1000, 2345])
def test_windows_cover_warmup_once(steps):
    plan = windows(steps)
    assert sum(w.end - w.start for w in plan) == steps
    assert all(a.end == b.start for a, b in itertools.pairwise(plan))


def test_halton_fills_the_unit_interval():
    values = sorted(halton(i) for i in range(1, 64))
    assert values == [i / 64 for i in range(1, 64)]


def test_trajectory_grows_along_a_positive_gradient():
    trajectory = Trajectory.start(0.5, torch.zeros(3))
    for _ in range(50):
        trajectory.update(1.0, 0.1)
    trajectory.settle()
    assert trajectory.log_length > math.log(0.5) + 0.5


def test_trajectory_ignores_a_nan_gradient():
    trajectory = Trajectory.start(0.5, torch.zeros(3))
    trajectory.update(math.nan, 0.1)
    assert trajectory.count == 0 and trajectory.log_length == math.log(0.5)


def test_direction_turns_to_where_chains_spread_most():
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 1.0])
    metric = mass.unit_metric(200, 3, False, noise)
    along = Trajectory.start(0.5, noise).along
    for _ in range(60):
        along = principal_direction(along, noise, metric)
    assert abs(float(along[1])) > 0.99 and float(along.norm()) == pytest.approx(1.0, rel=1e-5)


def test_direction_stays_where_chains_are_one_point():
    along = Trajectory.start(0.5, torch.zeros(3)).along
    same = torch.ones(4, 3)
    assert torch.equal(principal_direction(along, same, mass.unit_metric(4, 3, False, same)), along)


def test_criterion_wants_longer_trajectories_on_the_way_out_and_shorter_ones_on_the_way_back():
    # Chains that leave the centre along a circle of period 2 pi, from (q, p) = (0, 1): q = sin t, p = cos t.
    before = torch.tensor([[0.0], [0.0]])
    metric, accept = mass.unit_metric(2, 1, False, before), torch.ones(2)

    def slope(time):
        sign = torch.tensor([[1.0], [-1.0]])
        ends, momenta = sign * math.sin(time), sign * math.cos(time)
        return criterion_gradient(before, ends, momenta, accept, metric, time, torch.ones(1))

    assert slope(0.5) > 0 > slope(2.5)
    # d/d log t of sin(t)**4 / 4 / sqrt(t), times sqrt(t).
    by_hand = 0.5 * math.sin(0.5) ** 3 * math.cos(0.5) - math.sin(0.5) ** 4 / 8
    assert slope(0.5) == pytest.approx(by_hand, rel=1e-5)
