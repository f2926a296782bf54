"""Leapfrog: reversible, of second order, volume preserving; and the metric's algebra."""

from __future__ import annotations

import math

import pytest
import torch

from brancher.infer.mcmc import mass
from brancher.infer.mcmc.integrator import Metric, Phase, leapfrog, value_and_grad


def _log_prob(x):
    return -0.5 * (x**2).sum(-1) - 0.1 * (x**4).sum(-1) - 0.3 * x[:, 0] * x[:, 1]


GRADIENT = value_and_grad(_log_prob)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _metric(kind: str) -> Metric:
    if kind == "diag":
        return mass.metric_from_variance(torch.tensor([[0.5, 2.0, 1.0]]))
    a = torch.tensor([[1.0, 0.3, 0.0], [0.0, 1.0, 0.2], [0.1, 0.0, 1.5]])
    inverse = (a @ a.T)[None]
    return Metric(inverse, torch.linalg.cholesky(torch.linalg.inv(inverse)))


def _start(momentum_sign: float = 1.0) -> Phase:
    x = torch.tensor([[0.3, -0.8, 1.1]])
    value, grad = GRADIENT(x)
    return Phase(x, momentum_sign * torch.tensor([[0.5, 1.0, -0.7]]), grad, value)


def _run(phase: Phase, step: float, count: int, metric: Metric) -> Phase:
    for _ in range(count):
        phase = leapfrog(phase, torch.full((1,), step), metric, GRADIENT)
    return phase


@pytest.mark.parametrize("kind", ["diag", "dense"])
def test_leapfrog_is_reversible(kind):
    end = _run(_start(), 0.1, 50, _metric(kind))
    back = _run(end._replace(momentum=-end.momentum), 0.1, 50, _metric(kind))
    assert torch.allclose(back.position, _start().position, atol=1e-10)
    assert torch.allclose(-back.momentum, _start().momentum, atol=1e-10)


@pytest.mark.parametrize("kind", ["diag", "dense"])
def test_energy_error_falls_with_the_square_of_the_step(kind):
    metric = _metric(kind)

    def error(step: float) -> float:
        end = _run(_start(), step, round(1.0 / step), metric)
        energy = [float(metric.kinetic(p.momentum) - p.log_prob) for p in (_start(), end)]
        return abs(energy[1] - energy[0])

    slope = math.log(error(0.02) / error(0.01)) / math.log(2)
    assert slope == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("kind", ["diag", "dense"])
def test_leapfrog_keeps_volume(kind):
    def flow(point: torch.Tensor) -> torch.Tensor:
        x, p = point[:3][None], point[3:][None]
        half = p + 0.05 * _slope(x)
        x = x + 0.1 * _metric(kind).velocity(half)
        return torch.cat([x[0], (half + 0.05 * _slope(x))[0]])

    jacobian = torch.autograd.functional.jacobian(flow, torch.tensor([0.3, -0.8, 1.1, 0.5, 1.0, -0.7]))
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1, abs=1e-8)


def _slope(x: torch.Tensor) -> torch.Tensor:
    cross = torch.stack([x[:, 1], x[:, 0], torch.zeros_like(x[:, 0])], -1)
    return -x - 0.4 * x**3 - 0.3 * cross


@pytest.mark.parametrize("kind", ["diag", "dense"])
def test_momentum_has_the_mass_as_covariance(kind):
    metric = _metric(kind)
    root = torch.stack([metric.momentum(row[None])[0] for row in torch.eye(3)], -1)
    inverse = metric.inverse[0] if kind == "dense" else torch.diag(metric.inverse[0])
    assert torch.allclose(root @ root.T, torch.linalg.inv(inverse), atol=1e-12)


def test_velocity_of_many_momenta_is_that_of_each():
    metric, momenta = _metric("dense"), torch.randn(1, 4, 3)
    each = torch.stack([metric.velocity(momenta[:, i]) for i in range(4)], 1)
    assert torch.allclose(metric.velocity(momenta), each)
