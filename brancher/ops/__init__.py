"""Functions of tensors that models and their users need, under Pyro's names."""

from brancher.ops import indexing, stats

__all__ = ["indexing", "stats"]
