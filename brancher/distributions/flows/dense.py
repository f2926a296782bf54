"""``DenseNN``: a plain network that gives several parameters at once, for amortised guides and flows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from brancher.errors import ParamError


class DenseNN(nn.Module):
    """A multilayer perceptron whose outputs are cut into named sizes.

    Args:
        input_dim: size of the input's last dimension.
        hidden_dims: sizes of the hidden layers.
        param_dims: sizes of the outputs; several give a tuple of tensors.
        nonlinearity: between the layers.

    Raises:
        ParamError: a size is not a positive int.

    Example:
        >>> from brancher.nn import DenseNN
        >>> loc, scale = DenseNN(4, [8], param_dims=[2, 3])(torch.ones(5, 4))
        >>> loc.shape, scale.shape
        (torch.Size([5, 2]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        param_dims: Sequence[int] = (1, 1),
        nonlinearity: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = (input_dim, *hidden_dims, *param_dims)
        if not all(type(size) is int and size > 0 for size in sizes):
            raise ParamError(f"DenseNN: expected sizes as ints > 0, got {sizes}")
        self.param_dims = tuple(param_dims)
        layers: list[nn.Module] = []
        before = input_dim
        for size in hidden_dims:
            layers += [nn.Linear(before, size), nn.ReLU() if nonlinearity is None else nonlinearity]
            before = size
        self.layers = nn.Sequential(*layers, nn.Linear(before, sum(param_dims)))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """One output, or a tuple of several, shape (..., size)."""
        out: torch.Tensor = self.layers(x)
        return out if len(self.param_dims) == 1 else out.split(self.param_dims, dim=-1)
