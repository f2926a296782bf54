"""Objectives that are no average over runs fit algebraic models too."""

from __future__ import annotations

import pytest
import torch

from brancher import optim
from brancher.infer import SVI, EnergyDistance, Trace_MMD, TraceTailAdaptive_ELBO
from brancher.infer.autoguide import AutoNormal
from brancher.infer.elbo import ELBO
from brancher.symbolic import NormalVariable, ProbabilisticModel


def kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (-torch.cdist(x, y).square() / x.shape[1]).exp()


@pytest.mark.parametrize(
    ("objective", "noise", "expected", "tolerance"),
    [
        (EnergyDistance(num_particles=10), 0.1, 1.5, 0.05),  # predictions gather around the one data point
        (Trace_MMD(kernel), 0.1, 1.5, 0.1),  # a precision of 100 outweighs a discrepancy of at most 2
        (TraceTailAdaptive_ELBO(10), 1.0, 0.75, 0.02),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ELBO) else "",
)
def test_it_fits_an_algebraic_model(objective: ELBO, noise: float, expected: float, tolerance: float) -> None:
    torch.manual_seed(0)
    z = NormalVariable(0.0, 1.0, "z")
    y = NormalVariable(z, noise, "y")
    y.observe(1.5)
    model = ProbabilisticModel([y])
    guide = AutoNormal(model)
    SVI(model, guide, optim.ClippedAdam({"lr": 0.05, "lrd": 0.99}), objective).run(
        400, progress=False, compile=False
    )
    assert guide.median()["z"].item() == pytest.approx(expected, abs=tolerance)
