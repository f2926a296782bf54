"""``seed``: fix the random numbers of a block."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brancher.errors import HandlerTypeError
from brancher.handlers.messenger import Messenger
from brancher.staging.graph import refuse_seeding

if TYPE_CHECKING:
    from typing_extensions import Self


class seed(Messenger):  # noqa: N801
    """Start the random numbers of torch, numpy and Python from a seed, and restore them afterwards.

    Args:
        fn: the function to run.
        rng_seed: an int.

    Example:
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> bool(seed(model, rng_seed=1)() == seed(model, rng_seed=1)())
        True
    """

    def __init__(self, fn: Callable[..., Any] | None = None, rng_seed: int | None = None) -> None:
        if isinstance(fn, int):
            fn, rng_seed = None, fn
        super().__init__(fn)
        if not isinstance(rng_seed, int):
            raise HandlerTypeError(
                f"seed: expected rng_seed as an int, got {type(rng_seed).__name__}; "
                "write seed(fn, rng_seed=0)"
            )
        self.rng_seed = rng_seed
        self._before: tuple[Any, Any, Any] | None = None

    def fresh(self) -> Self:
        """Keep the generators' states beside the block, so that blocks nest."""
        entry = copy.copy(self)
        entry.origin = self
        entry._before = (torch.get_rng_state(), np.random.get_state(), random.getstate())
        return entry

    def __enter__(self) -> Self:
        refuse_seeding("seed")
        entry = super().__enter__()
        torch.manual_seed(self.rng_seed)
        np.random.seed(self.rng_seed % 2**32)
        random.seed(self.rng_seed)
        return entry

    def leave(self, completed: bool) -> None:
        """Put the generators back as they were."""
        if self._before is not None:
            torch.set_rng_state(self._before[0])
            np.random.set_state(self._before[1])
            random.setstate(self._before[2])
