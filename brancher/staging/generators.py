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


class OtherRandomState:
    """A copy of the states of Python's and numpy's global generators, taken when it is made.

    Example:
        >>> before = OtherRandomState()
        >>> some = random.random()
        >>> before.moved()
        "Python's"
        >>> before.restore()
        >>> before.moved() is None
        True
    """

    __slots__ = ("_numpy", "_python")

    def __init__(self) -> None:
        self._python, self._numpy = random.getstate(), np.random.get_state(legacy=False)

    def moved(self) -> str | None:
        """Whose generator has given a number since, or None."""
        if random.getstate() != self._python:
            return "Python's"
        return None if repr(np.random.get_state(legacy=False)) == repr(self._numpy) else "numpy's"

    def restore(self) -> None:
        """Put both generators back to where they were."""
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
