"""Guides made from models."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.infer.autoguide.autoregressive import AffineAutoregressive, AutoIAFNormal
from brancher.infer.autoguide.continuous import AutoContinuous
from brancher.infer.autoguide.delta import AutoDelta
from brancher.infer.autoguide.diagonal_normal import AutoDiagonalNormal
from brancher.infer.autoguide.discrete import AutoDiscreteParallel
from brancher.infer.autoguide.flow import AutoNormalizingFlow
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.guide_list import AutoCallable, AutoGuideList
from brancher.infer.autoguide.laplace import AutoLaplaceApproximation
from brancher.infer.autoguide.low_rank import AutoLowRankMultivariateNormal
from brancher.infer.autoguide.messengers import (
    AutoHierarchicalNormalMessenger,
    AutoMessenger,
    AutoNormalMessenger,
    AutoRegressiveMessenger,
)
from brancher.infer.autoguide.multivariate_normal import AutoMultivariateNormal
from brancher.infer.autoguide.normal import AutoNormal
from brancher.infer.autoguide.structured import AutoStructured
from brancher.infer.initialization import (
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "AffineAutoregressive",
    "AutoCallable",
    "AutoContinuous",
    "AutoDelta",
    "AutoDiagonalNormal",
    "AutoDiscreteParallel",
    "AutoGuide",
    "AutoGuideList",
    "AutoHierarchicalNormalMessenger",
    "AutoIAFNormal",
    "AutoLaplaceApproximation",
    "AutoLowRankMultivariateNormal",
    "AutoMessenger",
    "AutoMultivariateNormal",
    "AutoNormal",
    "AutoNormalMessenger",
    "AutoNormalizingFlow",
    "AutoRegressiveMessenger",
    "AutoStructured",
    "init_to_feasible",
    "init_to_generated",
    "init_to_mean",
    "init_to_median",
    "init_to_sample",
    "init_to_uniform",
    "init_to_value",
]
