"""Learnable bijections of vectors: modules that are transforms; ``distributions.transforms`` shows them."""

from brancher.distributions.flows.affine import (
    AffineAutoregressive,
    AffineCoupling,
    affine_autoregressive,
    affine_coupling,
)
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
from brancher.distributions.flows.masked import AutoRegressiveNN, MaskedLinear
from brancher.distributions.flows.module import ComposeTransformModule, TransformModule, iterated
from brancher.distributions.flows.planar import Planar, planar
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
    "MaskedLinear",
    "Planar",
    "Spline",
    "SplineAutoregressive",
    "SplineCoupling",
    "TransformModule",
    "affine_autoregressive",
    "affine_coupling",
    "conditional_affine_autoregressive",
    "conditional_affine_coupling",
    "conditional_planar",
    "conditional_spline",
    "conditional_spline_autoregressive",
    "iterated",
    "planar",
    "spline",
    "spline_autoregressive",
    "spline_coupling",
]
