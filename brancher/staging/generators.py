"""The state of torch's global random generators, on the CPU and on every GPU in use."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

Tensor = torch.Tensor


class RandomState:
    """A copy of all generators' states, taken when it is made.

    GPUs that this process has not used yet are left alone: asking for their state would start them up.

    Example:
        >>> before = RandomState()
        >>> first = torch.rand(2)
        >>> before.restore()
        >>> bool((torch.rand(2) == first).all())
        True
    """

    __slots__ = ("_cpu", "_cuda")

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda: list[Tensor] = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        """Put the generators back to where they were."""
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


class SeedWatch:
    """Tells whether something has set torch's seed, or drawn Python's or numpy's random numbers.

    Draws of torch alone tell nothing: they may be those of another thread.

    Example:
        >>> watch = SeedWatch()
        >>> some = random.random()
        >>> watch.moved()
        ("Python's too", 'draw with torch.rand or torch.randint: others would be the same at every call')
        >>> watch.restore()
        >>> bool(random.random() == some)
        True
    """

    __slots__ = ("_ahead", "_numpy", "_python", "_seed", "_torch")

    def __init__(self) -> None:
        self._torch, self._seed = RandomState(), torch.initial_seed()
        torch.empty(1, device="cpu").uniform_()  # nobody stands where a seed starts
        self._ahead = torch.get_rng_state()
        self._python, self._numpy = random.getstate(), np.random.get_state(legacy=False)

    def moved(self) -> tuple[str, str] | None:
        """What has happened since, and what to do instead; None for nothing of it."""
        if self._is_seeded():
            return "a call that sets the seed", "call torch.manual_seed before the staged function"
        others = {
            "Python's": random.getstate() != self._python,
            "numpy's": repr(np.random.get_state(legacy=False)) != repr(self._numpy),
        }
        for whose, has_moved in others.items():
            if has_moved:
                advice = "draw with torch.rand or torch.randint: others would be the same at every call"
                return f"{whose} too", advice
        return None

    def _is_seeded(self) -> bool:
        start = torch.Generator().manual_seed(self._seed).get_state()
        return torch.initial_seed() != self._seed or torch.equal(torch.get_rng_state(), start)

    def restore(self) -> None:
        """Put the generators back to where they were, but where another thread draws torch's numbers."""
        if self._is_seeded() or torch.equal(torch.get_rng_state(), self._ahead):
            self._torch.restore()
        random.setstate(self._python)
        np.random.set_state(self._numpy)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave all generators as they were, whatever is drawn inside.

    Example:
        >>> with random_state_kept():
        ...     first = torch.rand(2)
        >>> bool((torch.rand(2) == first).all())
        True
    """
    before = RandomState()
    try:
        yield
    finally:
        before.restore()
