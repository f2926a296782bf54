"""Models as plate diagrams: which site's value reaches which other site."""

from brancher.render.graph import ModelGraph, Node
from brancher.render.model import render_model

__all__ = ["ModelGraph", "Node", "render_model"]
