"""Learnable bijections of vectors: modules that are transforms; ``distributions.transforms`` shows them."""

from brancher.distributions.flows.affine import (
    AffineAutoregressive,
    AffineCoupling,
    affine_autoregressive,
    affine_coupling,
)
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
from brancher.distributions.flows.dense import DenseNN
from brancher.distributions.flows.linear import (
    Householder,
    MatrixExponential,
    householder,
    matrix_exponential,
)
from brancher.distributions.flows.masked import AutoRegressiveNN, MaskedLinear
from brancher.distributions.flows.module import ComposeTransformModule, TransformModule, iterated
from brancher.distributions.flows.planar import Planar, planar
from brancher.distributions.flows.radial import Radial, radial
from brancher.distributions.flows.splines import (
    Spline,
    SplineAutoregressive,
    SplineCoupling,
    spline,
    spline_autoregressive,
    spline_coupling,
)

__all__ = [
    "AffineAutoregressive",
    "AffineCoupling",
    "AutoRegressiveNN",
    "BlockAutoregressive",
    "ComposeTransformModule",
    "ConditionalAffineAutoregressive",
    "ConditionalAffineCoupling",
    "ConditionalAutoRegressiveNN",
    "ConditionalComposeTransformModule",
    "ConditionalDenseNN",
    "ConditionalPlanar",
    "ConditionalSpline",
    "ConditionalSplineAutoregressive",
    "ConditionalTransform",
    "ConditionalTransformModule",
    "DenseNN",
    "Householder",
    "MaskedLinear",
    "MatrixExponential",
    "Planar",
    "Radial",
    "Spline",
    "SplineAutoregressive",
    "SplineCoupling",
    "TransformModule",
    "affine_autoregressive",
    "affine_coupling",
    "block_autoregressive",
    "conditional_affine_autoregressive",
    "conditional_affine_coupling",
    "conditional_planar",
    "conditional_spline",
    "conditional_spline_autoregressive",
    "householder",
    "iterated",
    "matrix_exponential",
    "planar",
    "radial",
    "spline",
    "spline_autoregressive",
    "spline_coupling",
]
