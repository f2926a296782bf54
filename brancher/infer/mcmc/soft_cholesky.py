"""Factorisations that fail without an exception."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class SoftCholesky(TorchFunctionMode):
    """A matrix that is not positive definite gives NaN, which a sampler rejects, instead of an exception."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.linalg.cholesky, torch.cholesky):
            factor, failed = torch.linalg.cholesky_ex(*args, **kwargs)
            return torch.where((failed > 0)[..., None, None], math.nan, factor)
        return func(*args, **kwargs)
