from __future__ import annotations

from typing import Any

import pytest
import torch

import brancher.distributions as dist

PAIRS = [
    (dist.LogitNormal, {"loc": 0.3, "scale": 0.5}, {"loc": -1.0, "scale": 2.0}),
    (dist.InverseGamma, {"concentration": 5.0, "rate": 2.0}, {"concentration": 3.0, "rate": 4.0}),
    (
        dist.TruncatedNormal,
        {"loc": 0.3, "scale": 0.5, "low": 0.0, "high": 1.0},
        {"loc": 9.0, "scale": 2.0, "low": -1.0, "high": 2.0},
    ),
    (
        dist.TruncatedNormal,
        {"loc": -30.0, "scale": 1.0, "low": 0.0},
        {"loc": -20.0, "scale": 1.0, "low": 0.0},
    ),
]


def make(family: Any, arguments: dict[str, float]) -> Any:
    return family(**{name: torch.tensor(v, dtype=torch.float64) for name, v in arguments.items()})


@pytest.mark.parametrize(("family", "first", "second"), PAIRS)
def test_divergence_is_the_expected_log_ratio(family: Any, first: Any, second: Any) -> None:
    # n = 20000, z < 4.5: false alarm 7e-6
    p, q = make(family, first), make(family, second)
    n = 20_000
    x = p.sample(torch.Size([n]))
    ratio = p.log_prob(x) - q.log_prob(x)
    z = (ratio.mean() - dist.kl_divergence(p, q)) / (ratio.std() / n**0.5)
    assert abs(z) < 4.5


@pytest.mark.parametrize(("family", "first", "second"), PAIRS)
def test_divergence_from_itself_is_zero(family: Any, first: Any, second: Any) -> None:
    p = make(family, first)
    assert dist.kl_divergence(p, p).item() == pytest.approx(0.0, abs=1e-12)


def test_discrete_uniform_divergence_is_the_log_ratio_of_sizes() -> None:
    p, q = dist.DiscreteUniform(1, 2), dist.DiscreteUniform(0, 3)
    torch.testing.assert_close(dist.kl_divergence(p, q), torch.tensor(2.0).log())


def test_divergence_is_infinite_outside_the_support() -> None:
    p, q = dist.DiscreteUniform(0, 3), dist.DiscreteUniform(1, 2)
    assert dist.kl_divergence(p, q).item() == torch.inf
