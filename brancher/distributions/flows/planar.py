"""``Planar``: a flow that bends space along one direction."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from brancher.distributions.flows.module import TransformModule
from brancher.errors import DistributionError


class Planar(TransformModule):
    """``y = x + u * tanh(w . x + b)``, with u moved so that the map is invertible.

    Rezende & Mohamed 2015, arXiv:1505.05770, section 4.1 and appendix A. There is no inverse in closed
    form: only the density of the last draw is known.

    Args:
        input_dim: length of the vector.

    Raises:
        DistributionError: the inverse of anything but the last draw is asked for.
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__(cache_size=1)
        self.bias = nn.Parameter(torch.zeros(()))
        self.u = nn.Parameter(torch.randn(input_dim) / input_dim**0.5)
        self.w = nn.Parameter(torch.randn(input_dim) / input_dim**0.5)

    def _u(self) -> torch.Tensor:
        product = (self.u * self.w).sum()
        needed = F.softplus(product) - 1.0
        return self.u + (needed - product) * self.w / self.w.square().sum()

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        inside = (x * self.w).sum(-1, keepdim=True) + self.bias
        return x + self._u() * torch.tanh(inside)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        raise DistributionError(
            "Planar: expected the last draw, whose source is known, got another value; planar flows have no "
            "inverse in closed form: use a coupling or spline flow for densities of data"
        )

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        inside = (x * self.w).sum(-1) + self.bias
        return torch.log1p((1.0 - torch.tanh(inside).square()) * (self._u() * self.w).sum())


def planar(input_dim: int) -> Planar:
    """Make a :class:`Planar`."""
    return Planar(input_dim)
