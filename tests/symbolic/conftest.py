"""The seed's listings, as a function of the data."""

from __future__ import annotations

from typing import Any

import pytest

from brancher.symbolic import (
    BF,
    DeterministicVariable,
    LogitNormalVariable,
    NormalVariable,
    ProbabilisticModel,
)


def autoregressive(T: int = 20) -> dict[str, Any]:
    """The article's model and variational distribution, printed names mended."""
    driving_noise = 1.0
    measure_noise = 0.3
    x0 = NormalVariable(0.0, driving_noise, "x0")
    y0 = NormalVariable(x0, measure_noise, "y0")
    b = LogitNormalVariable(0.5, 1.0, "b")

    x = [x0]
    y = [y0]
    x_names = ["x0"]
    y_names = ["y0"]
    for t in range(1, T):
        x_names.append(f"x{t}")
        y_names.append(f"y{t}")
        x.append(NormalVariable(b * x[t - 1], driving_noise, x_names[t]))
        y.append(NormalVariable(x[t], measure_noise, y_names[t]))
    model = ProbabilisticModel(x + y)

    Qb = LogitNormalVariable(0.5, 0.5, "b", learnable=True)
    logit_b_post = DeterministicVariable(0.0, "logit_b_post", learnable=True)
    Qx = [NormalVariable(0.0, 1.0, "x0", learnable=True)]
    Qx_mean = [DeterministicVariable(0.0, "x0_mean", learnable=True)]
    for t in range(1, T):
        Qx_mean.append(DeterministicVariable(0.0, x_names[t] + "_mean", learnable=True))
        Qx.append(
            NormalVariable(BF.sigmoid(logit_b_post) * Qx[t - 1] + Qx_mean[t], 1.0, x_names[t], learnable=True)
        )
    posterior = ProbabilisticModel([Qb, *Qx])
    return {"model": model, "posterior": posterior, "x": x, "y": y, "b": b}


@pytest.fixture
def make_autoregressive() -> Any:
    return autoregressive
