"""The corners of monotone splines, and the two ways to join them: rational-quadratic and rational-linear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from brancher.errors import DistributionError

#: Least size of a bin relative to the interval, and least slope.
_LEAST = 1e-3

#: Least part of a bin on either side of the point where a linear spline splits it.
_LEAST_SPLIT = 0.025

#: By order, how many unconstrained parts make the knots.
PARTS = {"quadratic": 3, "linear": 4}


class Knots(NamedTuple):
    """The corners of a rational-quadratic spline from [-bound, bound] to itself.

    Durkan et al. 2019, "Neural Spline Flows", arXiv:1906.04032, section 3.1.

    Attributes:
        x: K + 1 places, last dimension.
        y: their images.
        slope: derivatives there.
    """

    x: torch.Tensor
    y: torch.Tensor
    slope: torch.Tensor

    def bend(self, at: torch.Tensor, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Images, or sources, and the logarithm of the forward derivative there; identity outside."""
        source = self.y if inverse else self.x
        inside, is_inside, k = _bins(source, at)
        x0, x1, y0, y1, d0, d1 = _ends(k, self.x, self.y, self.slope)
        width, height = x1 - x0, y1 - y0
        steep = height / width
        curve = d0 + d1 - 2.0 * steep
        if inverse:
            a = height * (steep - d0) + (inside - y0) * curve
            b = height * d0 - (inside - y0) * curve
            c = -steep * (inside - y0)
            # The root that loses no digits where a vanishes.
            part = 2.0 * c / (-b - (b.square() - 4.0 * a * c).clamp(min=0.0).sqrt())
            result = x0 + part * width
        else:
            part = (inside - x0) / width
            rise = steep * part.square() + d0 * part * (1.0 - part)
            result = y0 + height * rise / (steep + curve * part * (1.0 - part))
        top = d1 * part.square() + 2.0 * steep * part * (1.0 - part) + d0 * (1.0 - part).square()
        log_slope = 2.0 * steep.log() + top.log() - 2.0 * (steep + curve * part * (1.0 - part)).log()
        return torch.where(is_inside, result, at), torch.where(is_inside, log_slope, 0.0)


class LinearKnots(NamedTuple):
    """The corners of a rational-linear spline: bins are split, and a ratio of lines goes through each part.

    Dolatabadi et al. 2020, arXiv:2001.05168, section 3.

    Attributes:
        x: K + 1 places, last dimension.
        y: their images.
        slope: derivatives there.
        split: where the K bins are split, as a part of their width.
    """

    x: torch.Tensor
    y: torch.Tensor
    slope: torch.Tensor
    split: torch.Tensor

    def bend(self, at: torch.Tensor, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Images, or sources, and the logarithm of the forward derivative there; identity outside."""
        source = self.y if inverse else self.x
        inside, is_inside, k = _bins(source, at)
        x0, x1, y0, y1, d0, d1 = _ends(k, self.x, self.y, self.slope)
        split = self.split.gather(-1, k).squeeze(-1)
        width, rest = x1 - x0, 1.0 - split
        # Weights of the bin's start, which is 1, of its end and of the point between, whose image is y_mid.
        w1 = (d0 / d1).sqrt()
        w_mid = (split * d0 + rest * w1 * d1) * width / (y1 - y0)
        y_mid = (rest * y0 + split * w1 * y1) / (rest + split * w1)
        if inverse:
            is_first = inside <= y_mid
            low = split * (y0 - inside) / ((y0 - inside) + w_mid * (inside - y_mid))
            top = w_mid * (y_mid - inside) + split * w1 * (inside - y1)
            high = top / (w_mid * (y_mid - inside) + w1 * (inside - y1))
            part = torch.where(is_first, low, high)
            result = x0 + part * width
        else:
            part = (inside - x0) / width
            is_first = part <= split
        first, second = (split - part) + w_mid * part, w_mid * (1.0 - part) + w1 * (part - split)
        under = torch.where(is_first, first, second)
        if not inverse:
            low = y0 * (split - part) + w_mid * y_mid * part
            high = w_mid * y_mid * (1.0 - part) + w1 * y1 * (part - split)
            result = torch.where(is_first, low, high) / under
        rise = torch.where(is_first, split * (y_mid - y0), rest * w1 * (y1 - y_mid)) * w_mid
        log_slope = rise.log() - 2.0 * under.log() - width.log()
        return torch.where(is_inside, result, at), torch.where(is_inside, log_slope, 0.0)


def _ends(k: torch.Tensor, *parts: torch.Tensor) -> list[torch.Tensor]:
    """The entries of each part at both ends of bin ``k``."""
    return [part.gather(-1, k + step).squeeze(-1) for part in parts for step in (0, 1)]


def knots_of(order: str, parts: Sequence[torch.Tensor], bound: float) -> Knots | LinearKnots:
    """Knots from unconstrained numbers.

    Args:
        order: "quadratic" or "linear".
        parts: K widths, K heights, K - 1 inner slopes; for linear splines K places where bins are split.
        bound: half the length of the interval.

    Raises:
        DistributionError: the number of parts is not that of the order.
    """
    if len(parts) != PARTS[order]:
        raise DistributionError(
            f"spline: expected {PARTS[order]} parts for order='{order}', got {len(parts)}; give the network "
            f"param_dims of K widths, K heights and K - 1 slopes{', and K splits' * (order == 'linear')}"
        )
    widths, heights, slopes = parts[:3]
    ends = slopes.new_ones(slopes.shape[:-1] + (1,))
    # Zeros give a slope of one, so that the spline begins as the identity.
    inner = _LEAST + F.softplus(slopes + _softplus_inverse(1.0 - _LEAST))
    x, y = _places(widths, bound), _places(heights, bound)
    slope = torch.cat([ends, inner, ends], -1)
    if order == "quadratic":
        return Knots(x, y, slope)
    return LinearKnots(x, y, slope, _LEAST_SPLIT + (1.0 - 2.0 * _LEAST_SPLIT) * parts[3].sigmoid())


def order_of(order: str | None, network: Any) -> str:
    """The order asked for; by the number of a network's outputs where none is.

    Raises:
        DistributionError: the order is unknown.
    """
    if order is None:
        return "linear" if len(getattr(network, "param_dims", ())) == PARTS["linear"] else "quadratic"
    if order not in PARTS:
        raise DistributionError(
            f"spline: expected order of {list(PARTS)}, got {order!r}; 'quadratic' is usual"
        )
    return order


def sizes_of(order: str, count_bins: int, entries: int = 1) -> list[int]:
    """How many unconstrained numbers each part of the knots has, for several entries.

    Raises:
        DistributionError: the order is unknown.
    """
    sizes = [count_bins, count_bins, count_bins - 1, count_bins][: PARTS[order_of(order, None)]]
    return [size * entries for size in sizes]


def _bins(source: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, 0 for those outside; which are inside; and the bin of each, with a dimension of 1 behind."""
    is_inside = (at > source[..., 0]) & (at < source[..., -1])
    inside = torch.where(is_inside, at, 0.0)
    k = (torch.searchsorted(source.contiguous(), inside.unsqueeze(-1)) - 1).clamp(0, source.shape[-1] - 2)
    return inside, is_inside, k


def _places(sizes: torch.Tensor, bound: float) -> torch.Tensor:
    """Corners in [-bound, bound] from unconstrained sizes of the pieces."""
    count = sizes.shape[-1]
    shares = _LEAST + (1.0 - _LEAST * count) * torch.softmax(sizes, -1)
    inner = 2.0 * bound * shares.cumsum(-1)[..., :-1] - bound
    end = inner.new_full(inner.shape[:-1] + (1,), bound)
    return torch.cat([-end, inner, end], -1)


def _softplus_inverse(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float64).expm1().log())
