"""Flows that bend each entry by a monotone spline, rational-quadratic or rational-linear."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from brancher.distributions.flows.dense import DenseNN
from brancher.distributions.flows.knots import Knots, LinearKnots, knots_of, order_of, sizes_of
from brancher.distributions.flows.masked import AutoRegressiveNN
from brancher.distributions.flows.module import TransformModule


class Spline(TransformModule):
    """Bend every entry by a spline of its own.

    Args:
        input_dim: length of the vector.
        count_bins: pieces of a spline.
        bound: the splines are the identity outside of [-bound, bound]; > 0.
        order: "quadratic", or "linear", which is quicker and bends less smoothly.

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
        self.order, self.bound = order_of(order, None), bound
        names = ("widths", "heights", "derivatives", "lambdas")
        for name, size in zip(names, sizes_of(self.order, count_bins), strict=False):
            setattr(self, f"unnormalized_{name}", nn.Parameter(torch.randn(input_dim, size) * 0.1))

    def _knots(self, like: torch.Tensor) -> Knots | LinearKnots:
        parts = [part.expand(like.shape + part.shape[-1:]) for part in self.parameters()]
        return knots_of(self.order, parts, self.bound)

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
        hypernet: from those entries to ``(input_dim - split_dim)`` times K widths, K heights, K - 1 slopes,
            and for linear splines K splits.
        count_bins: pieces K of a spline.
        bound: see :class:`Spline`, as is ``order``.
        order: "quadratic" or "linear"; None for what the network's ``param_dims`` are for.
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
        order: str | None = None,
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.split_dim, self.moved_dim, self.nn = split_dim, input_dim - split_dim, hypernet
        self.order, self.bound = order_of(order, hypernet), bound
        self.lower_spline = None if identity else Spline(split_dim, count_bins, bound, self.order)

    def _knots(self, kept: torch.Tensor) -> Knots | LinearKnots:
        shape = kept.shape[:-1] + (self.moved_dim, -1)
        return knots_of(self.order, [part.reshape(shape) for part in self.nn(kept)], self.bound)

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
        autoregressive_nn: gives K widths, K heights and K - 1 slopes for each entry, and for linear splines
            K splits.
        count_bins: pieces K of a spline.
        bound: see :class:`Spline`, as is ``order``.
        order: "quadratic" or "linear"; None for what the network's ``param_dims`` are for.

    Raises:
        DistributionError: another order.
    """

    def __init__(
        self,
        input_dim: int,
        autoregressive_nn: AutoRegressiveNN,
        count_bins: int = 8,
        bound: float = 3.0,
        order: str | None = None,
    ) -> None:
        super().__init__(cache_size=1)
        self.order = order_of(order, autoregressive_nn)
        self.arn, self.bound = autoregressive_nn, bound

    def _knots(self, x: torch.Tensor) -> Knots | LinearKnots:
        return knots_of(self.order, [part.transpose(-1, -2) for part in self.arn(x)], self.bound)

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
    sizes = sizes_of(order, count_bins, moved)
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
    network = AutoRegressiveNN(input_dim, widths, sizes_of(order, count_bins))
    return SplineAutoregressive(input_dim, network, count_bins, bound, order)
