"""Learnable bijections of vectors: modules that are transforms; ``distributions.transforms`` shows them."""

from brancher.distributions.flows.affine import (
    AffineAutoregressive,
    AffineCoupling,
    affine_autoregressive,
    affine_coupling,
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
    "DenseNN",
    "MaskedLinear",
    "Planar",
    "Spline",
    "SplineAutoregressive",
    "SplineCoupling",
    "TransformModule",
    "affine_autoregressive",
    "affine_coupling",
    "iterated",
    "planar",
    "spline",
    "spline_autoregressive",
    "spline_coupling",
]
