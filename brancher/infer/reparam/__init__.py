"""Strategies that write a model's sites in other variables, for ``handlers.reparam``."""

from brancher.infer.reparam.angles import CircularReparam, ProjectedNormalReparam
from brancher.infer.reparam.loc_scale import LocScaleReparam
from brancher.infer.reparam.strategy import Reparam
from brancher.infer.reparam.transform import TransformReparam

__all__ = [
    "CircularReparam",
    "LocScaleReparam",
    "ProjectedNormalReparam",
    "Reparam",
    "TransformReparam",
]
