"""One optimizer step on 106 small parameters: ours, and torch's implementations by hand.

Run: python benchmarks/optimizer_step.py
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import torch

from brancher import optim

COUNT, ROUNDS, CALLS = 106, 30, 5


def leaves() -> dict[str, torch.Tensor]:
    return {f"p{i}": torch.ones(3, requires_grad=True) for i in range(COUNT)}


def stepper(named: dict[str, torch.Tensor], step: Callable[[], object]) -> Callable[[], None]:
    grads = [torch.randn(3) for _ in named]

    def run() -> None:
        for leaf, grad in zip(named.values(), grads, strict=True):
            leaf.grad = grad
        step()

    return run


def ours(name: str) -> Callable[[], None]:
    optimizer, named = getattr(optim, name)(lr=0.01), leaves()

    def step() -> None:
        optimizer.bind(named)
        optimizer.step()

    return stepper(named, step)


def theirs(name: str, **options: bool) -> Callable[[], None]:
    named = leaves()
    optimizer = getattr(torch.optim, name)(list(named.values()), lr=0.01, **options)

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return stepper(named, step)


def main() -> None:
    torch.manual_seed(0)
    print(f"microseconds a step, {COUNT} parameters of 3 entries, best of {ROUNDS}")
    print(f"{'':10}{'brancher':>10}{'default':>10}{'foreach':>10}{'fused':>10}")
    for name in ("Adam", "AdamW", "SGD", "Adagrad", "RMSprop"):
        runs = [ours(name), theirs(name), theirs(name, foreach=True)]
        if name != "RMSprop":  # torch has no fused one
            runs.append(theirs(name, fused=True))
        best = [float("inf")] * len(runs)
        for _ in range(ROUNDS):  # interleaved, so that a busy machine slows all alike
            best = [
                min(b, timeit.timeit(run, number=CALLS) / CALLS * 1e6)
                for b, run in zip(best, runs, strict=True)
            ]
        print(f"{name:10}" + "".join(f"{value:10.0f}" for value in best))


if __name__ == "__main__":
    main()
