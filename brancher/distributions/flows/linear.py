"""Flows that turn and mix the entries by a learned matrix."""

from __future__ import annotations

import torch
from torch import nn

from brancher.distributions.flows.module import TransformModule
from brancher.errors import DistributionError


class Householder(TransformModule):
    """Reflect the vector at several planes; keeps volumes and lengths.

    Tomczak & Welling 2016, arXiv:1611.09630, section 3.

    Args:
        input_dim: length of the vector.
        count_transforms: how many planes, > 0.

    Raises:
        DistributionError: there are no planes.

    Example:
        >>> from brancher.distributions.transforms import householder
        >>> x = torch.randn(5, 3)
        >>> torch.allclose(householder(3)(x).norm(dim=-1), x.norm(dim=-1), atol=1e-5)
        True
    """

    def __init__(self, input_dim: int, count_transforms: int = 1) -> None:
        super().__init__()
        if count_transforms < 1:
            raise DistributionError(f"Householder: expected count_transforms > 0, got {count_transforms}")
        self.u_unnormed = nn.Parameter(torch.randn(count_transforms, input_dim) / input_dim**0.5)

    def normals(self) -> torch.Tensor:
        """Normals of the planes, of any length: shape (count_transforms, ..., d)."""
        return self.u_unnormed

    def _reflected(self, x: torch.Tensor, is_backwards: bool) -> torch.Tensor:
        normals = nn.functional.normalize(self.normals(), dim=-1)
        for u in reversed(normals) if is_backwards else normals:
            x = x - 2.0 * (x * u).sum(-1, keepdim=True) * u
        return x

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self._reflected(x, False)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return self._reflected(y, True)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Zero."""
        return y.new_zeros(y.shape[:-1])


class MatrixExponential(TransformModule):
    """``y = exp(W) x`` with the exponential of a learned matrix, which is never singular.

    Hoogeboom et al. 2020, arXiv:2006.01910, section 3.

    Args:
        input_dim: length of the vector.

    Example:
        >>> from brancher.distributions.transforms import matrix_exponential
        >>> flow, x = matrix_exponential(3), torch.randn(5, 3)
        >>> torch.allclose(flow.inv(flow(x)), x, atol=1e-4)
        True
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(input_dim, input_dim) * 0.1)

    def matrix(self) -> torch.Tensor:
        """The matrix W, shape (..., d, d)."""
        return self.weights

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return _applied(self.matrix(), x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return _applied(-self.matrix(), y)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The trace of W."""
        return self.matrix().diagonal(dim1=-2, dim2=-1).sum(-1).expand(y.shape[:-1])


def _applied(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = (torch.linalg.matrix_exp(matrix) @ x.unsqueeze(-1)).squeeze(-1)
    return y


def householder(input_dim: int, count_transforms: int | None = None) -> Householder:
    """Make a :class:`Householder`; half as many planes as entries by default."""
    return Householder(input_dim, max(1, input_dim // 2) if count_transforms is None else count_transforms)


def matrix_exponential(input_dim: int) -> MatrixExponential:
    """Make a :class:`MatrixExponential`."""
    return MatrixExponential(input_dim)
