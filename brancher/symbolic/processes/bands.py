"""Mean and quantiles of mixtures of normals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import pandas as pd

#: Halvings of the interval that holds a quantile: to the last digit of double precision.
_HALVINGS = 60


def mixture_band(means: torch.Tensor, variances: torch.Tensor, prob: float) -> pd.DataFrame:
    """Describe mixtures of normals with equal weights.

    Args:
        means: shape (components, N).
        variances: shape (components, N), >= 0.
        prob: how much the band holds.

    Returns:
        One row a mixture: ``mean``, ``sd``, and the ends of the band.
    """
    import pandas as pd

    means, sds = means.double(), variances.double().sqrt()
    mean = means.mean(0)
    sd = (sds.square() + (means - mean).square()).mean(0).sqrt()
    levels = (0.5 - prob / 2, 0.5 + prob / 2)
    ends = {f"{100 * level:.6g}%": _quantile(means, sds, level).numpy() for level in levels}
    return pd.DataFrame({"mean": mean.numpy(), "sd": sd.numpy(), **ends})


def _quantile(means: torch.Tensor, sds: torch.Tensor, level: float) -> torch.Tensor:
    """Halve the interval in which the mixture's distribution function crosses ``level``."""
    z = torch.special.ndtri(torch.tensor(level, dtype=torch.float64))
    each: torch.Tensor = means + z * sds
    low: torch.Tensor = each.amin(0)
    high: torch.Tensor = each.amax(0)
    scale = sds.clamp(min=torch.finfo(torch.float64).tiny)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = torch.special.ndtr((middle - means) / scale).mean(0) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
