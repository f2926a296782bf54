"""Flows that bend each entry by a monotone rational-quadratic spline.

Durkan et al. 2019, "Neural Spline Flows", arXiv:1906.04032, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from brancher.distributions.flows.dense import DenseNN
from brancher.distributions.flows.masked import AutoRegressiveNN
from brancher.distributions.flows.module import TransformModule
from brancher.errors import DistributionError

#: Least size of a bin relative to the interval, and least slope.
_LEAST = 1e-3


class Knots(NamedTuple):
    """The corners of a spline from [-bound, bound] to itself.

    Attributes:
        x: K + 1 places, last dimension.
        y: their images.
        slope: derivatives there.
    """

    x: torch.Tensor
    y: torch.Tensor
    slope: torch.Tensor

    @classmethod
    def of(cls, widths: torch.Tensor, heights: torch.Tensor, slopes: torch.Tensor, bound: float) -> Knots:
        """Knots from unconstrained numbers: K widths, K heights, K - 1 inner slopes."""
        ends = slopes.new_ones(slopes.shape[:-1] + (1,))
        # Zeros give a slope of one, so that the spline begins as the identity.
        inner = _LEAST + F.softplus(slopes + _softplus_inverse(1.0 - _LEAST))
        return cls(_places(widths, bound), _places(heights, bound), torch.cat([ends, inner, ends], -1))

    def bend(self, at: torch.Tensor, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Images, or sources, and the logarithm of the forward derivative there; identity outside."""
        source = self.y if inverse else self.x
        bound = source[..., -1]
        is_inside = (at > source[..., 0]) & (at < bound)
        inside = torch.where(is_inside, at, 0.0)
        k = (torch.searchsorted(source.contiguous(), inside.unsqueeze(-1)) - 1).clamp(0, source.shape[-1] - 2)
        x0, x1, y0, y1, d0, d1 = (
            part.gather(-1, k + step).squeeze(-1) for part in (self.x, self.y, self.slope) for step in (0, 1)
        )
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


class Spline(TransformModule):
    """Bend every entry by a spline of its own.

    Args:
        input_dim: length of the vector.
        count_bins: pieces of a spline.
        bound: the splines are the identity outside of [-bound, bound]; > 0.
        order: "quadratic", the only kind.

    Raises:
        DistributionError: another order.

    Example:
        >>> from brancher.distributions.transforms import Spline
        >>> x = torch.randn(5, 2)
        >>> flow = Spline(2)
        >>> torch.allclose(flow.inv(flow(x)), x, atol=1e-4)
        True
    """

    def __init__(
        self, input_dim: int, count_bins: int = 8, bound: float = 3.0, order: str = "quadratic"
    ) -> None:
        super().__init__()
        _check_order(order)
        self.bound = bound
        self.unnormalized_widths = nn.Parameter(torch.randn(input_dim, count_bins) * 0.1)
        self.unnormalized_heights = nn.Parameter(torch.randn(input_dim, count_bins) * 0.1)
        self.unnormalized_derivatives = nn.Parameter(torch.randn(input_dim, count_bins - 1) * 0.1)

    def _knots(self, like: torch.Tensor) -> Knots:
        parts = self.unnormalized_widths, self.unnormalized_heights, self.unnormalized_derivatives
        widths, heights, slopes = (part.expand(like.shape + part.shape[-1:]) for part in parts)
        return Knots.of(widths, heights, slopes, self.bound)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self._knots(x).bend(x, False)[0]

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return self._knots(y).bend(y, True)[0]

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        return self._knots(x).bend(x, False)[1].sum(-1)


class SplineCoupling(TransformModule):
    """Bend the first entries by splines of their own, the others by splines that depend on the first.

    Args:
        input_dim: length of the vector.
        split_dim: how many entries come first.
        hypernet: from those entries to ``(input_dim - split_dim)`` times K widths, K heights, K - 1 slopes.
        count_bins: pieces K of a spline.
        bound: see :class:`Spline`, as is ``order``.
        order: "quadratic".
        identity: leave the first entries alone.

    Raises:
        DistributionError: another order.
    """

    def __init__(
        self,
        input_dim: int,
        split_dim: int,
        hypernet: nn.Module,
        count_bins: int = 8,
        bound: float = 3.0,
        order: str = "quadratic",
        identity: bool = False,
    ) -> None:
        super().__init__()
        _check_order(order)
        self.split_dim, self.moved_dim, self.nn = split_dim, input_dim - split_dim, hypernet
        self.bound = bound
        self.lower_spline = None if identity else Spline(split_dim, count_bins, bound)

    def _knots(self, kept: torch.Tensor) -> Knots:
        shape = kept.shape[:-1] + (self.moved_dim, -1)
        widths, heights, slopes = (part.reshape(shape) for part in self.nn(kept))
        return Knots.of(widths, heights, slopes, self.bound)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        kept, moved = x[..., : self.split_dim], x[..., self.split_dim :]
        bent, _ = self._knots(kept).bend(moved, False)
        return torch.cat([kept if self.lower_spline is None else self.lower_spline._call(kept), bent], -1)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        kept, moved = y[..., : self.split_dim], y[..., self.split_dim :]
        kept = kept if self.lower_spline is None else self.lower_spline._inverse(kept)
        return torch.cat([kept, self._knots(kept).bend(moved, True)[0]], -1)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        kept, moved = x[..., : self.split_dim], x[..., self.split_dim :]
        total = self._knots(kept).bend(moved, False)[1].sum(-1)
        return (
            total if self.lower_spline is None else total + self.lower_spline.log_abs_det_jacobian(kept, kept)
        )


class SplineAutoregressive(TransformModule):
    """Bend every entry by a spline that depends on the entries before it.

    Args:
        input_dim: length of the vector.
        autoregressive_nn: gives K widths, K heights and K - 1 slopes for each entry.
        count_bins: pieces K of a spline.
        bound: see :class:`Spline`, as is ``order``.
        order: "quadratic".

    Raises:
        DistributionError: another order.
    """

    def __init__(
        self,
        input_dim: int,
        autoregressive_nn: AutoRegressiveNN,
        count_bins: int = 8,
        bound: float = 3.0,
        order: str = "quadratic",
    ) -> None:
        super().__init__(cache_size=1)
        _check_order(order)
        self.arn, self.bound = autoregressive_nn, bound

    def _knots(self, x: torch.Tensor) -> Knots:
        widths, heights, slopes = (part.transpose(-1, -2) for part in self.arn(x))
        return Knots.of(widths, heights, slopes, self.bound)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self._knots(x).bend(x, False)[0]

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        x = torch.zeros_like(y)
        for entry in self.arn.permutation.tolist():
            known = self._knots(x).bend(y, True)[0]
            x = torch.where(torch.arange(y.shape[-1], device=y.device) == entry, known, x)
        return x

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        return self._knots(x).bend(x, False)[1].sum(-1)


def spline(input_dim: int, count_bins: int = 8, bound: float = 3.0, order: str = "quadratic") -> Spline:
    """Make a :class:`Spline`."""
    return Spline(input_dim, count_bins, bound, order)


def spline_coupling(
    input_dim: int,
    split_dim: int | None = None,
    hidden_dims: Sequence[int] | None = None,
    count_bins: int = 8,
    bound: float = 3.0,
    order: str = "quadratic",
) -> SplineCoupling:
    """Make a :class:`SplineCoupling`; half of the entries come first by default."""
    kept = input_dim // 2 if split_dim is None else split_dim
    widths = [10 * input_dim] * 2 if hidden_dims is None else hidden_dims
    moved = input_dim - kept
    sizes = [moved * count_bins, moved * count_bins, moved * (count_bins - 1)]
    return SplineCoupling(input_dim, kept, DenseNN(kept, widths, sizes), count_bins, bound, order)


def spline_autoregressive(
    input_dim: int,
    hidden_dims: Sequence[int] | None = None,
    count_bins: int = 8,
    bound: float = 3.0,
    order: str = "quadratic",
) -> SplineAutoregressive:
    """Make a :class:`SplineAutoregressive`; hidden layers are two of ``10 * input_dim`` by default."""
    widths = [10 * input_dim] * 2 if hidden_dims is None else hidden_dims
    network = AutoRegressiveNN(input_dim, widths, [count_bins, count_bins, count_bins - 1])
    return SplineAutoregressive(input_dim, network, count_bins, bound, order)


def _places(sizes: torch.Tensor, bound: float) -> torch.Tensor:
    """Corners in [-bound, bound] from unconstrained sizes of the pieces."""
    count = sizes.shape[-1]
    shares = _LEAST + (1.0 - _LEAST * count) * torch.softmax(sizes, -1)
    inner = 2.0 * bound * shares.cumsum(-1)[..., :-1] - bound
    end = inner.new_full(inner.shape[:-1] + (1,), bound)
    return torch.cat([-end, inner, end], -1)


def _softplus_inverse(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float64).expm1().log())


def _check_order(order: str) -> None:
    if order != "quadratic":
        raise DistributionError(
            f"spline: expected order='quadratic', got {order!r}; rational-quadratic splines are the only kind"
        )
