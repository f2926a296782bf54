"""Random numbers of the whole process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from brancher.errors import HandlerTypeError


def set_rng_seed(rng_seed: int | np.integer[Any]) -> None:
    """Seed torch, numpy and Python.

    Args:
        rng_seed: an int >= 0.

    Raises:
        HandlerTypeError: something else was given.
    """
    if isinstance(rng_seed, np.integer):
        rng_seed = int(rng_seed)
    if isinstance(rng_seed, bool) or not isinstance(rng_seed, int) or rng_seed < 0:
        raise HandlerTypeError(f"set_rng_seed: expected an int >= 0, got {rng_seed!r}; write set_rng_seed(0)")
    torch.manual_seed(rng_seed)
    random.seed(rng_seed)
    np.random.seed(rng_seed % 2**32)
