"""The state of torch's global random generators, on the CPU and on every GPU in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
