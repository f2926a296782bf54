"""An affine autoregressive flow, and the guide made of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from brancher.infer.autoguide.flow import AutoNormalizingFlow
from brancher.infer.initialization import Init, init_to_feasible

Fn = Callable[..., Any]


class AffineAutoregressive(nn.Module):
    """``y_i = x_i * exp(s_i) + m_i`` with s_i and m_i computed from the entries before i.

    Inverse autoregressive flow, Kingma et al. 2016, arXiv:1606.04934, in the exponential form,
    with a masked network (Germain et al. 2015, arXiv:1502.03509, section 3).
    It begins as the identity.

    Args:
        input_dim: length of the vector, > 0.
        hidden_dim: width of the hidden layer, or of several; None for one of ten times the length.
        reverse: let entries depend on those after them instead.
        max_log_scale: bound of ``|s_i|``, for steps that can not overflow; > 0.

    Example:
        >>> from brancher.infer.autoguide import AffineAutoregressive
        >>> AffineAutoregressive(3)(torch.ones(3))
        tensor([1., 1., 1.], grad_fn=...)
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int | Sequence[int] | None = None,
        *,
        reverse: bool = False,
        max_log_scale: float = 5.0,
    ) -> None:
        super().__init__()
        widths = [10 * input_dim] if hidden_dim is None else hidden_dim
        self.max_log_scale = max_log_scale
        order = torch.arange(input_dim).flip(0) if reverse else torch.arange(input_dim)
        # A hidden unit of degree d sees entries up to d and is seen by those after d.
        seen = [order]
        for width in [widths] if isinstance(widths, int) else widths:
            seen.append(torch.arange(width) % max(1, input_dim - 1))
        masks = [after[:, None] >= before[None, :] for before, after in pairwise(seen)]
        last = _Masked(torch.cat([order[:, None] > seen[-1][None, :]] * 2))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.ModuleList([*(_Masked(mask) for mask in masks), last])
        self.order = order.argsort().tolist()

    def _shift_and_log_scale(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        *hidden, last = self.layers
        for layer in hidden:
            x = torch.tanh(layer(x))
        shift, log_scale = last(x).chunk(2, -1)
        return shift, self.max_log_scale * torch.tanh(log_scale / self.max_log_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Send vectors through the flow."""
        shift, log_scale = self._shift_and_log_scale(x)
        return x * log_scale.exp() + shift

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        """Send vectors back, one entry after the other."""
        x = torch.zeros_like(y)
        for entry in self.order:
            shift, log_scale = self._shift_and_log_scale(x)
            known = (y - shift) * (-log_scale).exp()
            at = torch.zeros(y.shape[-1], dtype=torch.bool, device=y.device)
            at[entry] = True
            x = torch.where(at, known, x)
        return x

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant of the flow at ``x``, shape of ``x`` without its last dimension."""
        return self._shift_and_log_scale(x)[1].sum(-1)


class _Masked(nn.Linear):
    """A linear layer with some of its weights held at zero.

    Args:
        mask: which weights count, boolean, shape (outputs, inputs).
    """

    mask: torch.Tensor

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(torch.get_default_dtype()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        return F.linear(x, self.weight * self.mask, self.bias)


class AutoIAFNormal(AutoNormalizingFlow):
    """Guide all latent sites by a few inverse autoregressive flows in alternating order.

    Args:
        model: the model.
        hidden_dim: width of the networks' hidden layer, or of several; None for ten times the latent
            dimension.
        init_loc_fn: see :class:`AutoGuide`.
        num_transforms: how many flows, > 0.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Example:
        >>> from brancher.infer.autoguide import AutoIAFNormal
        >>> AutoIAFNormal(lambda: sample("x", dist.Gamma(torch.ones(2), 1.0).to_event(1)))()["x"].shape
        torch.Size([2])
    """

    def __init__(
        self,
        model: Fn,
        hidden_dim: int | Sequence[int] | None = None,
        init_loc_fn: Init = init_to_feasible,
        num_transforms: int = 2,
        *,
        create_plates: Fn | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            model,
            _Stacked(hidden_dim, num_transforms),
            init_loc_fn,
            create_plates=create_plates,
            prefix=prefix,
        )


class _Stacked:
    """Makes the flows; an object, so that the guide can be pickled."""

    def __init__(self, hidden_dim: int | Sequence[int] | None, number: int) -> None:
        self.hidden_dim, self.number = hidden_dim, number

    def __call__(self, dim: int) -> list[AffineAutoregressive]:
        return [AffineAutoregressive(dim, self.hidden_dim, reverse=bool(i % 2)) for i in range(self.number)]
