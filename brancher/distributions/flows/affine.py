"""Flows that scale and shift each entry by what they know of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from brancher.distributions.flows.dense import DenseNN
from brancher.distributions.flows.masked import AutoRegressiveNN
from brancher.distributions.flows.module import TransformModule


class AffineAutoregressive(TransformModule):
    """``y_i = x_i * exp(s_i) + m_i`` with s_i and m_i computed from the entries before i.

    Inverse autoregressive flow, Kingma et al. 2016, arXiv:1606.04934. Draws are quick; the inverse goes
    entry by entry, unless it is that of the last draw.

    Args:
        autoregressive_nn: gives m and s, such as ``AutoRegressiveNN(d, [10 * d])``.
        log_scale_min_clip: least s.
        log_scale_max_clip: largest s.
        sigmoid_bias: added to s for ``stable``.
        stable: take ``y_i = g x_i + (1 - g) m_i`` with ``g = sigmoid(s_i + sigmoid_bias)`` instead
            (the paper's section 4); s is not clipped then.

    Example:
        >>> from brancher.distributions import Normal, TransformedDistribution
        >>> from brancher.distributions.transforms import affine_autoregressive
        >>> law = TransformedDistribution(Normal(torch.zeros(3), 1.0), [affine_autoregressive(3)])
        >>> law.log_prob(law.rsample((5,))).shape
        torch.Size([5])
    """

    def __init__(
        self,
        autoregressive_nn: AutoRegressiveNN,
        log_scale_min_clip: float = -5.0,
        log_scale_max_clip: float = 3.0,
        sigmoid_bias: float = 2.0,
        stable: bool = False,
    ) -> None:
        super().__init__(cache_size=1)
        self.arn = autoregressive_nn
        self.limits = log_scale_min_clip, log_scale_max_clip
        self.sigmoid_bias, self.stable = sigmoid_bias, stable

    def _shift_and_log_scale(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shift, log_scale = self.arn(x)
        if self.stable:
            gate = log_scale + self.sigmoid_bias
            return shift * torch.sigmoid(-gate), logsigmoid(gate)
        return shift, _clipped(log_scale, *self.limits)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        shift, log_scale = self._shift_and_log_scale(x)
        return x * log_scale.exp() + shift

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        x = torch.zeros_like(y)
        for entry in self.arn.permutation.tolist():
            shift, log_scale = self._shift_and_log_scale(x)
            known = (y - shift) * (-log_scale).exp()
            is_here = torch.arange(y.shape[-1], device=y.device) == entry
            x = torch.where(is_here, known, x)
        return x

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        return self._shift_and_log_scale(x)[1].sum(-1)


class AffineCoupling(TransformModule):
    """Leave the first entries alone; scale and shift the others by what a network makes of the first.

    Real NVP, Dinh et al. 2017, arXiv:1605.08803, section 3.2. As quick backwards as forwards.

    Args:
        split_dim: how many entries are left alone.
        hypernet: from those entries to shift and log-scale of the others.
        log_scale_min_clip: least log-scale.
        log_scale_max_clip: largest log-scale.
    """

    def __init__(
        self,
        split_dim: int,
        hypernet: nn.Module,
        *,
        log_scale_min_clip: float = -5.0,
        log_scale_max_clip: float = 3.0,
    ) -> None:
        super().__init__()
        self.split_dim, self.nn = split_dim, hypernet
        self.limits = log_scale_min_clip, log_scale_max_clip

    def _shift_and_log_scale(self, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shift, log_scale = self.nn(kept)
        return shift, _clipped(log_scale, *self.limits)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        kept, moved = x[..., : self.split_dim], x[..., self.split_dim :]
        shift, log_scale = self._shift_and_log_scale(kept)
        return _joined(kept, moved * log_scale.exp() + shift)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        kept, moved = y[..., : self.split_dim], y[..., self.split_dim :]
        shift, log_scale = self._shift_and_log_scale(kept)
        return _joined(kept, (moved - shift) * (-log_scale).exp())

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        return self._shift_and_log_scale(x[..., : self.split_dim])[1].sum(-1)


def affine_autoregressive(
    input_dim: int, hidden_dims: Sequence[int] | None = None, **kwargs: Any
) -> AffineAutoregressive:
    """Make an :class:`AffineAutoregressive`; hidden layers are one of ``10 * input_dim`` by default."""
    widths = [10 * input_dim] if hidden_dims is None else hidden_dims
    return AffineAutoregressive(AutoRegressiveNN(input_dim, widths), **kwargs)


def affine_coupling(
    input_dim: int, hidden_dims: Sequence[int] | None = None, split_dim: int | None = None, **kwargs: Any
) -> AffineCoupling:
    """Make an :class:`AffineCoupling`; half of the entries are left alone by default."""
    kept = input_dim // 2 if split_dim is None else split_dim
    widths = [10 * input_dim] if hidden_dims is None else hidden_dims
    moved = input_dim - kept
    return AffineCoupling(kept, DenseNN(kept, widths, [moved, moved]), **kwargs)


def _joined(kept: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    return torch.cat([kept.expand(moved.shape[:-1] + kept.shape[-1:]), moved], -1)


def _clipped(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Cut off values, but not their gradients, so that a scale can come back."""
    return x + (x.clamp(low, high) - x).detach()
