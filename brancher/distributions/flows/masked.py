"""Networks whose outputs for one entry see only the entries before it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from brancher.errors import ParamError


class MaskedLinear(nn.Linear):
    """A linear layer with some of its weights held at zero.

    Args:
        in_features: length of the input.
        out_features: length of the output.
        mask: which weights count, shape (out_features, in_features).
        bias: whether to add a bias.
    """

    mask: torch.Tensor

    def __init__(self, in_features: int, out_features: int, mask: torch.Tensor, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.register_buffer("mask", mask.to(torch.get_default_dtype()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer."""
        return F.linear(x, self.weight * self.mask, self.bias)


class AutoRegressiveNN(nn.Module):
    """A masked network: its parameters for one entry depend on the entries before it alone.

    Germain et al. 2015, "MADE", arXiv:1502.03509, section 3.

    Args:
        input_dim: length d of the vector.
        hidden_dims: widths of the hidden layers.
        param_dims: sizes of the parameters of each entry.
        permutation: the order of the entries; from left to right by default.
        skip_connections: add a masked linear map from input to output.
        nonlinearity: between the layers; ReLU by default.

    Raises:
        ParamError: a size is not a positive int.

    Example:
        >>> from brancher.nn import AutoRegressiveNN
        >>> loc, log_scale = AutoRegressiveNN(3, [16])(torch.zeros(5, 3))
        >>> loc.shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        param_dims: Sequence[int] = (1, 1),
        permutation: torch.Tensor | None = None,
        skip_connections: bool = False,
        nonlinearity: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = (input_dim, *hidden_dims, *param_dims)
        if not all(type(size) is int and size > 0 for size in sizes):
            raise ParamError(f"AutoRegressiveNN: expected sizes as ints > 0, got {sizes}")
        self.input_dim, self.param_dims = input_dim, tuple(param_dims)
        self.permutation = torch.arange(input_dim) if permutation is None else permutation
        order = self.permutation.argsort()
        # A hidden unit of degree d sees entries up to d and is seen by those after d.
        degrees = [order, *(torch.arange(width) % max(1, input_dim - 1) for width in hidden_dims)]
        total = sum(self.param_dims)
        layers: list[nn.Module] = []
        for before, after in pairwise(degrees):
            mask = after[:, None] >= before[None, :]
            layers += [MaskedLinear(len(before), len(after), mask), nonlinearity or nn.ReLU()]
        last = (order[:, None] > degrees[-1][None, :]).repeat(total, 1)
        layers.append(MaskedLinear(len(degrees[-1]), total * input_dim, last))
        self.layers = nn.Sequential(*layers)
        direct = (order[:, None] > order[None, :]).repeat(total, 1)
        self.skip = (
            MaskedLinear(input_dim, total * input_dim, direct, bias=False) if skip_connections else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """One parameter, or a tuple of several, shape (..., d), or (..., size, d) where a size is above 1."""
        return self.parameters_of(x, self.layers(x))

    def parameters_of(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The last layer's output cut into parameters."""
        out = out if self.skip is None else out + self.skip(x)
        out = out.reshape(out.shape[:-1] + (sum(self.param_dims), self.input_dim))
        if max(self.param_dims) > 1:
            parts: tuple[torch.Tensor, ...] = out.split(self.param_dims, dim=-2)
        else:
            parts = out.unbind(-2)
        return parts[0] if len(parts) == 1 else parts
