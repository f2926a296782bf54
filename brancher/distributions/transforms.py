"""Bijections and other maps: torch's transforms, and those that models need besides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.distributions import constraints as torch_constraints
from torch.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)

from brancher.absent import refuse
from brancher.distributions import constraints
from brancher.distributions.constraints import same_value
from brancher.distributions.elementwise_transforms import (
    ELUTransform,
    ExtendedIntervalTransform,
    LeakyReLUTransform,
    PositivePowerTransform,
    SoftplusTransform,
    elu,
    leaky_relu,
)
from brancher.distributions.flows import (
    AffineAutoregressive,
    AffineCoupling,
    ComposeTransformModule,
    Planar,
    Spline,
    SplineAutoregressive,
    SplineCoupling,
    TransformModule,
    affine_autoregressive,
    affine_coupling,
    iterated,
    planar,
    spline,
    spline_autoregressive,
    spline_coupling,
)
from brancher.distributions.flows import conditional as _conditional
from brancher.distributions.flows import conditional_vectors as _conditional_vectors
from brancher.distributions.flows.batchnorm import BatchNorm, batchnorm
from brancher.distributions.flows.block import BlockAutoregressive, block_autoregressive
from brancher.distributions.flows.conditional import *  # noqa: F403
from brancher.distributions.flows.conditional_vectors import *  # noqa: F403
from brancher.distributions.flows.linear import (
    Householder,
    MatrixExponential,
    householder,
    matrix_exponential,
)
from brancher.distributions.flows.neural import (
    ConditionalNeuralAutoregressive,
    NeuralAutoregressive,
    conditional_neural_autoregressive,
    neural_autoregressive,
)
from brancher.distributions.flows.polynomial import Polynomial, polynomial
from brancher.distributions.flows.radial import Radial, radial
from brancher.distributions.flows.sylvester import Sylvester, sylvester
from brancher.distributions.matrix_transforms import (
    CorrCholeskyTransform,
    CorrMatrixTransform,
    LowerCholeskyVectorTransform,
    PositiveDefiniteFromCholesky,
    SameKind,
    SoftplusLowerCholeskyTransform,
    SoftplusLowerCholeskyVectorTransform,
    UnitLowerCholeskyTransform,
    UnitLowerCholeskyVectorTransform,
)
from brancher.distributions.series_transforms import DiscreteCosineTransform, HaarTransform
from brancher.distributions.shapes import broadcast_shapes

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "AbsTransform",
    "AffineAutoregressive",
    "AffineCoupling",
    "AffineTransform",
    "BatchNorm",
    "BlockAutoregressive",
    "CatTransform",
    "ComposeTransform",
    "ComposeTransformModule",
    "ConditionalNeuralAutoregressive",
    "CorrCholeskyTransform",
    "CorrMatrixTransform",
    "CumulativeDistributionTransform",
    "DiscreteCosineTransform",
    "ELUTransform",
    "ExpTransform",
    "ExtendedIntervalTransform",
    "HaarTransform",
    "Householder",
    "IndependentTransform",
    "LeakyReLUTransform",
    "LowerCholeskyAffine",
    "LowerCholeskyTransform",
    "LowerCholeskyVectorTransform",
    "MatrixExponential",
    "NeuralAutoregressive",
    "Normalize",
    "OrderedTransform",
    "Permute",
    "PermuteTransform",
    "Planar",
    "Polynomial",
    "PositiveDefiniteFromCholesky",
    "PositiveDefiniteTransform",
    "PositivePowerTransform",
    "PowerTransform",
    "Radial",
    "ReshapeTransform",
    "SigmoidTransform",
    "SoftmaxTransform",
    "SoftplusLowerCholeskyTransform",
    "SoftplusLowerCholeskyVectorTransform",
    "SoftplusTransform",
    "Spline",
    "SplineAutoregressive",
    "SplineCoupling",
    "StackTransform",
    "StereographicTransform",
    "StickBreakingTransform",
    "Sylvester",
    "TanhTransform",
    "Transform",
    "TransformModule",
    "UnitLowerCholeskyTransform",
    "UnitLowerCholeskyVectorTransform",
    "affine_autoregressive",
    "affine_coupling",
    "batchnorm",
    "block_autoregressive",
    "conditional_neural_autoregressive",
    "elu",
    "householder",
    "identity_transform",
    "iterated",
    "leaky_relu",
    "matrix_exponential",
    "neural_autoregressive",
    "permute",
    "planar",
    "polynomial",
    "radial",
    "spline",
    "spline_autoregressive",
    "spline_coupling",
    "sylvester",
]
__all__ += _conditional.__all__
__all__ += _conditional_vectors.__all__


class OrderedTransform(SameKind):
    """Vector to an increasing one: the first entry stays, each next adds ``exp(x)``.

    Example:
        >>> OrderedTransform()(torch.tensor([1.0, 0.0, 0.0]))
        tensor([1., 2., 3.])
    """

    domain = torch_constraints.real_vector
    codomain = constraints.ordered_vector
    bijective = True
    sign = +1

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[..., :1], x[..., 1:].exp()], -1).cumsum(-1)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([y[..., :1], (y[..., 1:] - y[..., :-1]).log()], -1)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Sum of all but the first entry."""
        return x[..., 1:].sum(-1)


class Permute(Transform):
    """Reorder the entries of one dimension.

    Args:
        permutation: the index in x of each entry of y.
        dim: the dimension; < 0.

    Example:
        >>> Permute(torch.tensor([2, 0, 1]))(torch.tensor([1.0, 2.0, 3.0]))
        tensor([3., 1., 2.])
    """

    bijective = True

    def __init__(self, permutation: torch.Tensor, dim: int = -1, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.permutation = torch.as_tensor(permutation)
        self.dim = dim

    @property
    def domain(self) -> Any:  # type: ignore[override]
        """Real numbers, with the permuted dimension inside the event."""
        return torch_constraints.independent(torch_constraints.real, -self.dim)

    codomain = domain

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Permute) and other.dim == self.dim
        return same and same_value(self.permutation, other.permutation)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((Permute, self.dim))

    def with_cache(self, cache_size: int = 1) -> Permute:
        """Return the same map with another cache size."""
        return Permute(self.permutation, self.dim, cache_size)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return x.index_select(self.dim, self.permutation.to(x.device))

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y.index_select(self.dim, self.permutation.argsort().to(y.device))

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Zero: entries change places only."""
        return x.new_zeros(x.shape[: x.dim() + self.dim])


PermuteTransform = Permute


def permute(input_dim: int, permutation: torch.Tensor | None = None, dim: int = -1) -> Permute:
    """Make a :class:`Permute`; at random by default."""
    return Permute(torch.randperm(input_dim) if permutation is None else permutation, dim)


class LowerCholeskyAffine(Transform):
    """``y = loc + scale_tril @ x``.

    Args:
        loc: shape (..., D).
        scale_tril: lower-triangular with a positive diagonal, shape (..., D, D).

    Example:
        >>> LowerCholeskyAffine(torch.ones(2), 2 * torch.eye(2))(torch.ones(2))
        tensor([3., 3.])
    """

    domain = torch_constraints.real_vector
    codomain = torch_constraints.real_vector
    bijective = True

    def __init__(self, loc: torch.Tensor, scale_tril: torch.Tensor, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.loc = loc
        self.scale_tril = scale_tril

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LowerCholeskyAffine):
            return False
        return same_value([self.loc, self.scale_tril], [other.loc, other.scale_tril])

    def __hash__(self) -> int:
        return hash(LowerCholeskyAffine)

    def with_cache(self, cache_size: int = 1) -> LowerCholeskyAffine:
        """Return the same map with another cache size."""
        return LowerCholeskyAffine(self.loc, self.scale_tril, cache_size)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self.loc + (self.scale_tril @ x.unsqueeze(-1)).squeeze(-1)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        centred = (y - self.loc).unsqueeze(-1)
        solved: torch.Tensor = torch.linalg.solve_triangular(self.scale_tril, centred, upper=False).squeeze(
            -1
        )
        return solved

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Sum of the log-diagonal."""
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det.expand(broadcast_shapes(x.shape[:-1], log_det.shape))


class Normalize(SameKind):
    """Vector to the unit vector of its direction; not bijective."""

    domain = torch_constraints.real_vector
    codomain = constraints.sphere

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        unit: torch.Tensor = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return unit

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y


class StereographicTransform(SameKind):
    """Vector of D - 1 numbers to the unit sphere in D dimensions, all but one pole.

    The log-determinant is with respect to the surface of the sphere.

    Example:
        >>> StereographicTransform()(torch.tensor([1.0]))
        tensor([1., 0.])
    """

    domain = torch_constraints.real_vector
    codomain = constraints.sphere
    bijective = True

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        square = x.square().sum(-1, keepdim=True)
        return torch.cat([2.0 * x, square - 1.0], -1) / (square + 1.0)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        # 1 - z is taken from the other coordinates near the pole z = 1, where it would cancel.
        flat, z = y[..., :-1], y[..., -1:]
        square = flat.square().sum(-1, keepdim=True)
        gap = torch.where(z > 0, square / (1.0 + z.clamp(min=0.0)), 1.0 - z)
        return flat / gap

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The map scales lengths by 2 / (1 + |x|^2) in every direction."""
        return x.shape[-1] * (math.log(2.0) - x.square().sum(-1).log1p())

    def forward_shape(self, shape: Any) -> torch.Size:
        """One entry more."""
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """One entry less."""
        return torch.Size((*shape[:-1], shape[-1] - 1))
