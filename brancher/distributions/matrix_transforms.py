"""Bijections between vectors of real numbers and matrices.

Log-determinants are with respect to the free entries of the matrix: its lower triangle, without
the diagonal where that is fixed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.distributions import constraints as torch_constraints
from torch.distributions.transforms import CorrCholeskyTransform as TorchCorrCholeskyTransform
from torch.distributions.transforms import Transform
from torch.nn.functional import pad, softplus

from brancher.distributions import constraints
from brancher.distributions.special import cholesky, log1mexp
from brancher.errors import DistributionError

_LOG_2 = math.log(2.0)


class SameKind(Transform):
    """A transform without parameters: equal to any other of its class."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


def size_of_triangle(length: int, offset: int) -> int:
    """Return D such that the lower triangle of a D x D matrix has ``length`` entries.

    Args:
        length: number of entries.
        offset: 0 with the diagonal, -1 without it.

    Example:
        >>> size_of_triangle(6, 0), size_of_triangle(6, -1)
        (3, 4)
    """
    size: int = round(((8 * length + 1) ** 0.5 - 1) / 2) - offset
    if size * (size + 1 + 2 * offset) != 2 * length:
        raise DistributionError(
            f"transform: expected a last dimension of D * (D + 1 + {2 * offset}) / 2 entries for a "
            f"triangular matrix, got {length}"
        )
    return size


def fill_triangle(vector: torch.Tensor, offset: int) -> torch.Tensor:
    """Write the last dimension row by row into the lower triangle of a square matrix."""
    size = size_of_triangle(vector.shape[-1], offset)
    row, column = torch.tril_indices(size, size, offset, device=vector.device)
    flat = vector.new_zeros((*vector.shape[:-1], size * size))
    index = (row * size + column).expand(vector.shape)
    matrix: torch.Tensor = flat.scatter(-1, index, vector).unflatten(-1, (size, size))
    return matrix


def read_triangle(matrix: torch.Tensor, offset: int) -> torch.Tensor:
    """Read the lower triangle of a square matrix row by row."""
    size = matrix.shape[-1]
    row, column = torch.tril_indices(size, size, offset, device=matrix.device)
    flat = matrix.flatten(-2)
    return flat.gather(-1, (row * size + column).expand(flat.shape[:-1] + row.shape))


class _Triangular(SameKind):
    """Vector to matrix, by way of a lower triangle."""

    domain = torch_constraints.real_vector
    bijective = True
    offset = 0

    def forward_shape(self, shape: Any) -> torch.Size:
        """Shape of the matrix."""
        size = size_of_triangle(shape[-1], self.offset)
        return torch.Size((*shape[:-1], size, size))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """Shape of the vector."""
        size = shape[-1]
        return torch.Size((*shape[:-2], size * (size + 1 + 2 * self.offset) // 2))


class LowerCholeskyVectorTransform(_Triangular):
    """Vector of D (D + 1) / 2 numbers to a lower-triangular matrix with a positive diagonal (by exp)."""

    codomain = torch_constraints.lower_cholesky

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        matrix = fill_triangle(x, 0)
        return matrix.tril(-1) + matrix.diagonal(dim1=-2, dim2=-1).exp().diag_embed()

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return read_triangle(y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed(), 0)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Sum of the log-diagonal."""
        return y.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class SoftplusLowerCholeskyVectorTransform(_Triangular):
    """Vector to a lower-triangular matrix with a positive diagonal (by softplus)."""

    codomain = constraints.softplus_lower_cholesky

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        matrix = fill_triangle(x, 0)
        diagonal = exact_softplus(matrix.diagonal(dim1=-2, dim2=-1))
        return matrix.tril(-1) + diagonal.diag_embed()

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        diagonal = inverse_softplus(y.diagonal(dim1=-2, dim2=-1))
        return read_triangle(y.tril(-1) + diagonal.diag_embed(), 0)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The slope of softplus is 1 - exp(-y)."""
        return log1mexp(-y.diagonal(dim1=-2, dim2=-1)).sum(-1)


class UnitLowerCholeskyVectorTransform(_Triangular):
    """Vector of D (D - 1) / 2 numbers to a lower-triangular matrix with a unit diagonal."""

    codomain = constraints.unit_lower_cholesky
    offset = -1

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        matrix = fill_triangle(x, -1)
        return matrix + torch.eye(matrix.shape[-1], dtype=x.dtype, device=x.device)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return read_triangle(y, -1)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Zero: entries are copied."""
        return torch.zeros_like(y[..., 0, 0])


class CorrCholeskyTransform(TorchCorrCholeskyTransform):
    """Vector of D (D - 1) / 2 numbers to the Cholesky factor of a correlation matrix.

    Row by row, each entry takes the share ``tanh(x)`` of the length that is left. Indices are fixed
    numbers and no value is clamped, so it can be traced, and its gradient never vanishes by cutting.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TorchCorrCholeskyTransform)

    def __hash__(self) -> int:
        return hash(CorrCholeskyTransform)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        share = fill_triangle(torch.tanh(x), -1)
        # log(1 - tanh(x)^2) / 2 = -log cosh(x)
        left = torch.exp(fill_triangle(-_log_cosh(x), -1).cumsum(-1))
        before = pad(left[..., :-1], (1, 0), value=1.0)
        identity = torch.eye(share.shape[-1], dtype=x.dtype, device=x.device)
        return (share + identity) * before

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        # What is left right of an entry is summed from the diagonal, which keeps small remainders.
        tail = y.square().flip(-1).cumsum(-1).flip(-1)
        after = pad(tail[..., 1:], (0, 1))
        entry = read_triangle(y, -1)
        return torch.asinh(entry / read_triangle(after, -1).sqrt())

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor, intermediates: Any = None) -> Any:
        """With respect to the entries below the diagonal."""
        log_left = fill_triangle(-_log_cosh(x), -1).cumsum(-1)
        before = pad(log_left[..., :-1], (1, 0))
        return read_triangle(before, -1).sum(-1) - 2.0 * _log_cosh(x).sum(-1)


class _Squared(SameKind):
    """Lower-triangular factor L to ``L @ L.mT``."""

    bijective = True

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x.mT

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return cholesky(y)


class CorrMatrixTransform(_Squared):
    """Cholesky factor of a correlation matrix to the matrix."""

    domain = torch_constraints.corr_cholesky
    codomain = constraints.corr_matrix

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """With respect to the entries below the diagonal."""
        size = x.shape[-1]
        power = torch.arange(size - 1, -1, -1, dtype=x.dtype, device=x.device)
        return (power * x.diagonal(dim1=-2, dim2=-1).log()).sum(-1)


class PositiveDefiniteFromCholesky(_Squared):
    """Cholesky factor to the positive definite matrix."""

    domain = torch_constraints.lower_cholesky
    codomain = torch_constraints.positive_definite

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """With respect to the lower triangle."""
        size = x.shape[-1]
        power = torch.arange(size, 0, -1, dtype=x.dtype, device=x.device)
        return (power * x.diagonal(dim1=-2, dim2=-1).log() + _LOG_2).sum(-1)


class SoftplusLowerCholeskyTransform(SameKind):
    """Square matrix to a lower-triangular one with a positive diagonal (by softplus); not bijective."""

    domain = torch_constraints.independent(torch_constraints.real, 2)
    codomain = constraints.softplus_lower_cholesky

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return x.tril(-1) + exact_softplus(x.diagonal(dim1=-2, dim2=-1)).diag_embed()

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y.tril(-1) + inverse_softplus(y.diagonal(dim1=-2, dim2=-1)).diag_embed()


class UnitLowerCholeskyTransform(SameKind):
    """Square matrix to a lower-triangular one with a unit diagonal; not bijective."""

    domain = torch_constraints.independent(torch_constraints.real, 2)
    codomain = constraints.unit_lower_cholesky

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return x.tril(-1) + torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y.tril(-1)


def exact_softplus(x: torch.Tensor) -> torch.Tensor:
    """Return ``log(1 + exp(x))`` to the last digit: linear above 40, not above 20 as by torch's default."""
    return softplus(x, threshold=40.0)


def inverse_softplus(y: torch.Tensor) -> torch.Tensor:
    """Return x with ``softplus(x) = y > 0``.

    Example:
        >>> inverse_softplus(torch.tensor(1000.0))
        tensor(1000.)
    """
    return y + log1mexp(-y)


def _log_cosh(x: torch.Tensor) -> torch.Tensor:
    return x.abs() + softplus(-2.0 * x.abs()) - _LOG_2
