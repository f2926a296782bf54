"""Probability distributions: torch's families with batch and event algebra, and our own."""

from brancher.distributions.algebra import ExpandedDistribution, Independent, MaskedDistribution
from brancher.distributions.base import Distribution
from brancher.distributions.normal import Normal

__all__ = ["Distribution", "ExpandedDistribution", "Independent", "MaskedDistribution", "Normal"]
