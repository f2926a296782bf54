"""Exact sums over discrete sites: variable elimination in log space, plates and Markov chains included."""

from brancher.infer.enumeration.config import config_enumerate
from brancher.infer.enumeration.discrete import infer_discrete

__all__ = ["config_enumerate", "infer_discrete"]
