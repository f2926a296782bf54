"""Guides made from models."""

from brancher.infer.autoguide.autoregressive import AffineAutoregressive, AutoIAFNormal
from brancher.infer.autoguide.continuous import AutoContinuous
from brancher.infer.autoguide.delta import AutoDelta
from brancher.infer.autoguide.diagonal_normal import AutoDiagonalNormal
from brancher.infer.autoguide.flow import AutoNormalizingFlow
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.guide_list import AutoCallable, AutoGuideList
from brancher.infer.autoguide.laplace import AutoLaplaceApproximation
from brancher.infer.autoguide.low_rank import AutoLowRankMultivariateNormal
from brancher.infer.autoguide.multivariate_normal import AutoMultivariateNormal
from brancher.infer.autoguide.normal import AutoNormal

__all__ = [
    "AffineAutoregressive",
    "AutoCallable",
    "AutoContinuous",
    "AutoDelta",
    "AutoDiagonalNormal",
    "AutoGuide",
    "AutoGuideList",
    "AutoIAFNormal",
    "AutoLaplaceApproximation",
    "AutoLowRankMultivariateNormal",
    "AutoMultivariateNormal",
    "AutoNormal",
    "AutoNormalizingFlow",
]
