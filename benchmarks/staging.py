"""What staging gives and costs: eight schools' whole SVI step, written by hand as a function of tensors.

Run with ``OMP_NUM_THREADS=1 python benchmarks/staging.py``; pin it to a core (``taskset -c 0``) for steady
numbers. The step draws, takes the loss and its gradient, and does one Adam update. Every line is the median
of alternating rounds in one process; cold starts are fresh processes, with an empty cache, then a filled one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import HalfCauchy, Normal

from brancher.staging import stage, stage_loop

ROUNDS = 9
Params = dict[str, Tensor]
Carry = tuple[Params, Params, Params, Tensor]

Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def loss(params: Params, y: Tensor, sigma: Tensor) -> Tensor:
    """Negative ELBO from one draw of a mean-field normal guide."""
    guide = Normal(params["loc"], params["scale"].exp(), validate_args=False)
    z = guide.rsample()
    mu, log_tau, theta = z[0], z[1], z[2:]
    tau = log_tau.exp()
    joint = Normal(0.0, 5.0, validate_args=False).log_prob(mu)
    joint = joint + HalfCauchy(5.0, validate_args=False).log_prob(tau) + log_tau
    joint = joint + Normal(mu, tau, validate_args=False).log_prob(theta).sum()
    joint = joint + Normal(theta, sigma, validate_args=False).log_prob(y).sum()
    return guide.log_prob(z).sum() - joint


def step(carry: Carry, y: Tensor, sigma: Tensor) -> tuple[Carry, Tensor]:
    """One step of SVI with Adam."""
    params, first, second, count = carry
    leaves = {k: v.detach().requires_grad_() for k, v in params.items()}
    value = loss(leaves, y, sigma)
    gradients = dict(zip(params, torch.autograd.grad(value, list(leaves.values())), strict=True))
    count = count + 1
    first = {k: 0.9 * first[k] + 0.1 * g for k, g in gradients.items()}
    second = {k: 0.999 * second[k] + 0.001 * g * g for k, g in gradients.items()}
    update = {
        k: first[k] / (1 - 0.9**count) / ((second[k] / (1 - 0.999**count)).sqrt() + 1e-8) for k in params
    }
    return ({k: params[k] - 0.01 * update[k] for k in params}, first, second, count), value.detach()


def start() -> Carry:
    """Guide at the origin, empty optimizer state."""
    zeros = [{"loc": torch.zeros(10), "scale": torch.zeros(10)} for _ in range(3)]
    return zeros[0], zeros[1], zeros[2], torch.tensor(0.0)


def alternating(ways: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Median microseconds a step of each way, measured in turns; a way is a call and its steps."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (call, steps) in ways.items():
            begin = time.perf_counter()
            call()
            seconds[name].append((time.perf_counter() - begin) / steps)
    return {name: statistics.median(values) * 1e6 for name, values in seconds.items()}


def steps_of(call: Callable[[Carry], Carry], count: int) -> Callable[[], None]:
    """A function that feeds a carry through ``count`` calls."""

    def many() -> None:
        carry = start()
        for _ in range(count):
            carry = call(carry)

    return many


def hot() -> None:
    """Print the cost of a step, and of the parts of a call."""
    loop = stage_loop(step)
    plan = loop.staged.plan(start(), Y, SIGMA)
    args = (start(), Y, SIGMA)
    tensors = plan.take(args)
    assert tensors is not None
    outputs = plan.run(tensors)

    def repeat(call: Callable[[], object]) -> tuple[Callable[[], object], int]:
        return lambda: [call() for _ in range(1000)], 1000

    found = alternating(
        {
            "eager": (steps_of(lambda c: step(c, Y, SIGMA)[0], 100), 100),
            "staged": (steps_of(lambda c: loop.step(c, Y, SIGMA)[0], 1000), 1000),
            "loop": (lambda: loop(start(), 5000, Y, SIGMA), 5000),
            "  check and take the arguments": repeat(lambda: plan.take(args)),
            "  run the library": repeat(lambda: plan.run(tensors)),
            "  build the result": repeat(lambda: plan.build(outputs)),
        }
    )
    print(f"{'us a step':34} {'':>9} {'/ eager':>8}")
    for name, value in found.items():
        print(f"{name:34} {value:9.2f} {value / found['eager']:8.4f}")


def overhead() -> None:
    """Print what a call costs in Python for 30 tensors in nested containers, the computation left out."""
    tree = {
        "params": {f"p{i}": torch.zeros(()) for i in range(15)},
        "state": [torch.zeros(()) for _ in range(15)],
    }
    staged = stage(lambda t: t["params"]["p0"] + 1)
    plan = staged.plan(tree)
    found = alternating(
        {
            "whole call": (lambda: [staged(tree) for _ in range(1000)], 1000),
            "take 30 tensors": (lambda: [plan.take((tree,)) for _ in range(1000)], 1000),
        }
    )
    print(
        "\n30 tensors in, one addition: "
        + ", ".join(f"{name} {value:.1f} us" for name, value in found.items())
    )


def cold() -> None:
    """Print the time to the first step in fresh processes: with an empty cache, then with the filled one."""
    print(f"\n{'seconds in a fresh process':34} {'import':>7} {'trace':>7} {'compile':>8} {'first':>7}")
    with tempfile.TemporaryDirectory() as folder:
        setting = {**os.environ, "BRANCHER_CACHE_DIR": folder, "OMP_NUM_THREADS": "1"}
        for name in ("empty cache", "second process"):
            done = subprocess.run(
                [sys.executable, __file__, "--child"], env={**setting, "BRANCHER_PRECOMPILE_HEADERS": "0"},
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            row = json.loads(done.stdout)
            times = f"{row['import']:7.2f} {row['trace']:7.2f} {row['compile']:8.2f} {row['first']:7.2f}"
            print(f"{name:34} {times}")


def child(begin: float) -> None:
    """Time the parts of the first step in this process; print them as JSON."""
    from brancher.staging.graph import record

    imported = time.perf_counter()
    record(lambda x: x + 1, (torch.zeros(1),), "warm")  # the tracer's own imports
    warm = time.perf_counter()
    staged = stage(step)
    args = (start(), Y, SIGMA)
    record(step, args, "step")
    traced = time.perf_counter()
    staged(*args)
    done = time.perf_counter()
    trace = traced - warm
    print(
        json.dumps(
            {
                "import": warm - begin,
                "trace": trace,
                "compile": done - traced - trace,
                "first": done - begin - trace,
            }
        )
    )
    assert imported >= begin


if __name__ == "__main__":
    BEGIN = time.perf_counter()
    torch.set_num_threads(1)
    if "--child" in sys.argv:
        child(BEGIN)
    else:
        hot()
        overhead()
        cold()
