"""Learnable bijections of vectors: modules that are transforms; ``distributions.transforms`` shows them."""

from brancher.distributions.flows.affine import (
    AffineAutoregressive,
    AffineCoupling,
    affine_autoregressive,
    affine_coupling,
)
from brancher.distributions.flows.batchnorm import BatchNorm, batchnorm
from brancher.distributions.flows.block import BlockAutoregressive, block_autoregressive
from brancher.distributions.flows.conditional import (
    ConditionalAffineAutoregressive,
    ConditionalAffineCoupling,
    ConditionalAutoRegressiveNN,
    ConditionalComposeTransformModule,
    ConditionalDenseNN,
    ConditionalPlanar,
    ConditionalSpline,
    ConditionalSplineAutoregressive,
    ConditionalTransform,
    ConditionalTransformModule,
    conditional_affine_autoregressive,
    conditional_affine_coupling,
    conditional_planar,
    conditional_spline,
    conditional_spline_autoregressive,
)
from brancher.distributions.flows.conditional_vectors import (
    ConditionalHouseholder,
    ConditionalMatrixExponential,
    ConditionalRadial,
    conditional_householder,
    conditional_matrix_exponential,
    conditional_radial,
)
from brancher.distributions.flows.dense import DenseNN
from brancher.distributions.flows.linear import (
    Householder,
    MatrixExponential,
    householder,
    matrix_exponential,
)
from brancher.distributions.flows.masked import AutoRegressiveNN, MaskedLinear
from brancher.distributions.flows.module import ComposeTransformModule, TransformModule, iterated
from brancher.distributions.flows.neural import (
    ConditionalNeuralAutoregressive,
    NeuralAutoregressive,
    conditional_neural_autoregressive,
    neural_autoregressive,
)
from brancher.distributions.flows.planar import Planar, planar
from brancher.distributions.flows.polynomial import Polynomial, polynomial
from brancher.distributions.flows.radial import Radial, radial
from brancher.distributions.flows.splines import (
    Spline,
    SplineAutoregressive,
    SplineCoupling,
    spline,
    spline_autoregressive,
    spline_coupling,
)
from brancher.distributions.flows.sylvester import Sylvester, sylvester

__all__ = [
    "AffineAutoregressive",
    "AffineCoupling",
    "AutoRegressiveNN",
    "BatchNorm",
    "BlockAutoregressive",
    "ComposeTransformModule",
    "ConditionalAffineAutoregressive",
    "ConditionalAffineCoupling",
    "ConditionalAutoRegressiveNN",
    "ConditionalComposeTransformModule",
    "ConditionalDenseNN",
    "ConditionalHouseholder",
    "ConditionalMatrixExponential",
    "ConditionalNeuralAutoregressive",
    "ConditionalPlanar",
    "ConditionalRadial",
    "ConditionalSpline",
    "ConditionalSplineAutoregressive",
    "ConditionalTransform",
    "ConditionalTransformModule",
    "DenseNN",
    "Householder",
    "MaskedLinear",
    "MatrixExponential",
    "NeuralAutoregressive",
    "Planar",
    "Polynomial",
    "Radial",
    "Spline",
    "SplineAutoregressive",
    "SplineCoupling",
    "Sylvester",
    "TransformModule",
    "affine_autoregressive",
    "affine_coupling",
    "batchnorm",
    "block_autoregressive",
    "conditional_affine_autoregressive",
    "conditional_affine_coupling",
    "conditional_householder",
    "conditional_matrix_exponential",
    "conditional_neural_autoregressive",
    "conditional_planar",
    "conditional_radial",
    "conditional_spline",
    "conditional_spline_autoregressive",
    "householder",
    "iterated",
    "matrix_exponential",
    "neural_autoregressive",
    "planar",
    "polynomial",
    "radial",
    "spline",
    "spline_autoregressive",
    "spline_coupling",
    "sylvester",
]
