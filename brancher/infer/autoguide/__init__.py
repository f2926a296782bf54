"""Guides made from models."""

from brancher.infer.autoguide.delta import AutoDelta
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.normal import AutoNormal

__all__ = ["AutoDelta", "AutoGuide", "AutoNormal"]
