"""Strategies that write a model's sites in other variables, for ``handlers.reparam``."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.infer.reparam.angles import CircularReparam, ProjectedNormalReparam
from brancher.infer.reparam.automatic import AutoReparam, MinimalReparam
from brancher.infer.reparam.gumbel_softmax import GumbelSoftmaxReparam
from brancher.infer.reparam.loc_scale import LocScaleReparam
from brancher.infer.reparam.neutra import NeuTraReparam
from brancher.infer.reparam.split import SplitReparam
from brancher.infer.reparam.strategy import Reparam, Strategy
from brancher.infer.reparam.student_t import StudentTReparam
from brancher.infer.reparam.transform import TransformReparam
from brancher.infer.reparam.unit_jacobian import DiscreteCosineReparam, HaarReparam, UnitJacobianReparam

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "AutoReparam",
    "CircularReparam",
    "DiscreteCosineReparam",
    "GumbelSoftmaxReparam",
    "HaarReparam",
    "LocScaleReparam",
    "MinimalReparam",
    "NeuTraReparam",
    "ProjectedNormalReparam",
    "Reparam",
    "SplitReparam",
    "Strategy",
    "StudentTReparam",
    "TransformReparam",
    "UnitJacobianReparam",
]
