"""Fixed points of unconstrained space, sent onto the supports: medians and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.distributions.transforms import IndependentTransform, Transform

from brancher.distributions import Distribution
from brancher.errors import GuideError
from brancher.infer.autoguide.draws import Draws
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.prototype import Latent
from brancher.infer.autoguide.walk import Rows, Spot

Tensors = dict[str, torch.Tensor]


class Points(Draws):
    """Given points in place of draws.

    Args:
        free: unconstrained points by site, all rows.
        scales: spread by site, for points off the centre.
        shift: how many spreads off the centre, towards larger values of the site.
    """

    def __init__(self, free: Tensors, scales: Tensors | None = None, shift: float = 0.0) -> None:
        self.free, self.scales, self.shift = free, scales, shift

    def value(self, latent: Latent, rows: Rows, transform: Transform | None) -> torch.Tensor:
        """A site's point on its support."""
        free = self.free[latent.name]
        if self.scales is not None:
            sign = -1.0 if is_decreasing(transform) else 1.0
            free = free + sign * self.shift * self.scales[latent.name]
        free = latent.rows(free, rows, latent.free_dim)
        return free if transform is None else transform(free)

    def law(self, latent: Latent, spot: Spot) -> Distribution:
        """Points have none."""
        raise NotImplementedError


def is_decreasing(transform: Transform | None) -> bool:
    """Whether larger unconstrained values mean smaller ones on the support, as below an upper bound."""
    if transform is None:
        return False
    if isinstance(transform, IndependentTransform):
        return is_decreasing(transform.base_transform)
    try:
        sign = transform.sign
    except NotImplementedError:
        return False
    return bool(torch.as_tensor(sign).max() < 0)


def at_quantiles(
    guide: AutoGuide,
    locs: Tensors,
    scales: Tensors,
    quantiles: float | Sequence[float] | torch.Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Tensors:
    """Quantiles of normals in unconstrained space, sent onto the supports.

    Raises:
        GuideError: a probability is not in (0, 1).
    """
    asked = torch.as_tensor(quantiles, dtype=torch.float64)
    if not bool(((asked > 0) & (asked < 1)).all()) or asked.dim() > 1:
        raise GuideError(
            f"{type(guide).__name__}.quantiles: expected probabilities in (0, 1), got {asked.tolist()}; "
            "write quantiles([0.05, 0.95])"
        )
    shifts = torch.special.ndtri(asked).reshape(-1).tolist()
    each = [guide.constrained(Points(locs, scales, shift), args, kwargs) for shift in shifts]
    if not asked.dim():
        return each[0]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}
