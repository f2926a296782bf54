"""Pyro's ``hook_fn``: told of every draw, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brancher.errors import InferenceTypeError, UnsupportedError
from brancher.infer.mcmc.sampler import Sampler

#: Called with the kernel, unconstrained values by site, "warmup" or "sample", and the draw's number there.
HookFn = Callable[[Any, dict[str, Any], str, int], None]


class Hook:
    """Tells a function of the draws that a sampler has made since it last looked.

    Chains that run as one batch are told of together, with a dimension of chains on the left of the values.
    Draws come out of compiled code some hundreds at a time, so the function is called a moment later.

    Args:
        hook_fn: the function.
        kernel: what it is called with.
        density: gives the values their names.
        sampler: where the draws are.
    """

    def __init__(self, hook_fn: HookFn, kernel: Any, density: Any, sampler: Sampler) -> None:
        self.hook_fn, self.kernel, self.density = hook_fn, kernel, density
        self.told = sampler.num_done

    def update(self, sampler: Sampler) -> None:
        """Tell of the new draws."""
        buffers = sampler.buffers
        if buffers is None:
            return
        warmup, done = sampler.settings.warmup_steps, sampler.num_done
        while self.told < done:
            number, row = self.told, buffers.draws[:, self.told - sampler.base].clone()
            self.told += 1
            values = self.density.split(row)
            if row.shape[0] == 1:
                values = {name: value[0] for name, value in values.items()}
            stage = ("warmup", number) if number < warmup else ("sample", number - warmup)
            self.hook_fn(self.kernel, values, *stage)


def check_hook(hook_fn: Any, chain_method: str) -> None:
    """Refuse what is no function, and processes, whose draws come back when all are done.

    Raises:
        InferenceTypeError: it is no function.
        UnsupportedError: chains run in processes of their own.
    """
    if hook_fn is None:
        return
    if not callable(hook_fn):
        raise InferenceTypeError(
            f"MCMC: expected hook_fn as a function of (kernel, samples, stage, i), got "
            f"{type(hook_fn).__name__}"
        )
    if chain_method == "parallel":
        raise UnsupportedError(
            "MCMC: expected hook_fn with chains in this process, got chain_method='parallel'; leave one out"
        )


def both(first: Callable[[Sampler], None], second: Callable[[Sampler], None]) -> Callable[[Sampler], None]:
    """One report that makes two."""

    def report(sampler: Sampler) -> None:
        first(sampler)
        second(sampler)

    return report
