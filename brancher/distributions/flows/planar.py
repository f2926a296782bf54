"""``Planar``: a flow that bends space along one direction."""

from __future__ import annotations

import torch
from torch import nn

from brancher.distributions.flow_transforms import PlanarTransform
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

    def _map(self) -> PlanarTransform:
        return PlanarTransform(self.w, self.u, self.bias)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self._map()._call(x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        raise DistributionError(
            "Planar: expected the last draw, whose source is known, got another value; planar flows have no "
            "inverse in closed form: use a coupling or spline flow for densities of data"
        )

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        return self._map().log_abs_det_jacobian(x, y)


def planar(input_dim: int) -> Planar:
    """Make a :class:`Planar`."""
    return Planar(input_dim)
