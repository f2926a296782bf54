"""Eager cost of constructing a distribution and scoring a value: ours against torch's, without checks.

Run ``python benchmarks/distributions.py``. Both sides alternate in one process; the best of several
rounds is shown, in microseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributions as td

import brancher.distributions as dist

ROUNDS, CALLS = 9, 300


def microseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


def main() -> None:
    torch.set_num_threads(1)
    zero, one, real = torch.zeros(8), torch.ones(8), torch.randn(8)
    positive, unit, count = real.abs() + 0.1, torch.rand(8), torch.arange(8.0)
    rows: list[tuple[str, tuple[Any, ...], torch.Tensor]] = [
        ("Normal", (zero, one), real),
        ("Normal", (0.0, one), real),
        ("HalfNormal", (one,), positive),
        ("HalfCauchy", (one,), positive),
        ("LogNormal", (zero, one), positive),
        ("Cauchy", (zero, one), real),
        ("StudentT", (3 * one, zero, one), real),
        ("Exponential", (one,), positive),
        ("Gamma", (2.0, 3.0), positive),
        ("Gamma", (one, one), positive),
        ("Beta", (2.0, 3.0), unit),
        ("Beta", (one, one), unit),
        ("Bernoulli", (unit,), (unit > 0.5).float()),
        ("Bernoulli", (None, real), (unit > 0.5).float()),
        ("Categorical", (one,), torch.tensor(1)),
        ("Poisson", (one,), count),
        ("Binomial", (10, unit), count),
    ]
    print(f"{'family':12s} {'arguments':18s} {'torch':>8s} {'ours':>8s} {'ratio':>6s}")
    for name, arguments, value in rows:
        theirs, ours = getattr(td, name), getattr(dist, name)
        best = [float("inf"), float("inf")]
        with torch.no_grad(), dist.validation_enabled(False):
            for _ in range(ROUNDS):
                calls = (
                    lambda: theirs(*arguments, validate_args=False).log_prob(value),  # noqa: B023
                    lambda: ours(*arguments).log_prob(value),  # noqa: B023
                )
                best = [min(b, microseconds(c)) for b, c in zip(best, calls, strict=True)]
        kinds = ", ".join("tensor" if isinstance(a, torch.Tensor) else str(a) for a in arguments)
        print(f"{name:12s} {kinds:18s} {best[0]:8.1f} {best[1]:8.1f} {best[1] / best[0]:6.2f}")


if __name__ == "__main__":
    main()
