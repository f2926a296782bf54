"""Flows of whole vectors, such as reflections, whose numbers are computed from a context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from brancher.distributions.flows.conditional import ConditionalTransformModule
from brancher.distributions.flows.dense import DenseNN
from brancher.distributions.flows.linear import Householder, MatrixExponential
from brancher.distributions.flows.module import TransformModule
from brancher.distributions.flows.radial import Radial

#: The transforms and what makes them.
__all__ = [
    "ConditionalHouseholder",
    "ConditionalMatrixExponential",
    "ConditionalRadial",
    "conditional_householder",
    "conditional_matrix_exponential",
    "conditional_radial",
]


class _GivenHouseholder(Householder):
    def __init__(self, normals: torch.Tensor) -> None:
        TransformModule.__init__(self)
        self.given = normals

    def normals(self) -> torch.Tensor:
        return self.given


class ConditionalHouseholder(ConditionalTransformModule):
    """A :class:`Householder` whose planes are computed from a context.

    Args:
        input_dim: length d of the vector.
        hypernet: from the context to K normals of length d, such as ``DenseNN(context_dim, [32], [d] * K)``.
        count_transforms: how many planes K, > 0.

    Raises:
        DistributionError: there are no planes.
    """

    def __init__(self, input_dim: int, hypernet: nn.Module, count_transforms: int = 1) -> None:
        super().__init__()
        Householder(input_dim, count_transforms)  # refuses a number of planes
        self.input_dim, self.nn, self.count_transforms = input_dim, hypernet, count_transforms

    def condition(self, context: torch.Tensor) -> Householder:
        """The reflections for a context."""
        made = self.nn(context)
        parts = made if isinstance(made, tuple) else made.split(self.input_dim, -1)
        return _GivenHouseholder(torch.stack(torch.broadcast_tensors(*parts)))


class _GivenMatrix(MatrixExponential):
    def __init__(self, matrix: torch.Tensor) -> None:
        TransformModule.__init__(self)
        self.given = matrix

    def matrix(self) -> torch.Tensor:
        return self.given


class ConditionalMatrixExponential(ConditionalTransformModule):
    """A :class:`MatrixExponential` whose matrix is computed from a context.

    Args:
        input_dim: length d of the vector.
        hypernet: from the context to d * d numbers, such as ``DenseNN(context_dim, [32], [d * d])``.
    """

    def __init__(self, input_dim: int, hypernet: nn.Module) -> None:
        super().__init__()
        self.input_dim, self.nn = input_dim, hypernet

    def condition(self, context: torch.Tensor) -> MatrixExponential:
        """The flow for a context."""
        made = self.nn(context)
        return _GivenMatrix(made.reshape(made.shape[:-1] + (self.input_dim, self.input_dim)))


class _GivenRadial(Radial):
    def __init__(self, x0: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor) -> None:
        TransformModule.__init__(self)
        self.given = x0, alpha, beta

    def free_numbers(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.given


class ConditionalRadial(ConditionalTransformModule):
    """A :class:`Radial` whose centre and numbers are computed from a context.

    Args:
        hypernet: from the context to the centre (d), and alpha (1) and beta (1) before they are made
            positive, such as ``DenseNN(context_dim, [32], [d, 1, 1])``.
    """

    def __init__(self, hypernet: nn.Module) -> None:
        super().__init__()
        self.nn = hypernet

    def condition(self, context: torch.Tensor) -> Radial:
        """The flow for a context."""
        x0, alpha, beta = self.nn(context)
        return _GivenRadial(x0, alpha.squeeze(-1), beta.squeeze(-1))


def conditional_householder(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sequence[int] | None = None,
    count_transforms: int = 1,
) -> ConditionalHouseholder:
    """Make a :class:`ConditionalHouseholder`; two hidden layers of ``10 * input_dim`` by default."""
    widths = [10 * input_dim] * 2 if hidden_dims is None else hidden_dims
    network = DenseNN(context_dim, widths, [input_dim] * count_transforms)
    return ConditionalHouseholder(input_dim, network, count_transforms)


def conditional_matrix_exponential(
    input_dim: int, context_dim: int, hidden_dims: Sequence[int] | None = None
) -> ConditionalMatrixExponential:
    """Make a :class:`ConditionalMatrixExponential`; two hidden layers of ``10 * input_dim`` by default."""
    widths = [10 * input_dim] * 2 if hidden_dims is None else hidden_dims
    return ConditionalMatrixExponential(input_dim, DenseNN(context_dim, widths, [input_dim * input_dim]))


def conditional_radial(
    input_dim: int, context_dim: int, hidden_dims: Sequence[int] | None = None
) -> ConditionalRadial:
    """Make a :class:`ConditionalRadial`; two hidden layers of ``10 * input_dim`` by default."""
    widths = [10 * input_dim] * 2 if hidden_dims is None else hidden_dims
    return ConditionalRadial(DenseNN(context_dim, widths, [input_dim, 1, 1]))
