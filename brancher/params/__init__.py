"""Learnable values by name, in stores that have an owner."""

from __future__ import annotations

from brancher.params.current import clear_param_store, current_store, get_param_store, using
from brancher.params.files import load_state, load_tensors, save_state, save_tensors
from brancher.params.flatten import flatten_state, unflatten_state
from brancher.params.journal import undone_on_error
from brancher.params.leaf_of import show_leaf
from brancher.params.state import LoadReport
from brancher.params.store import ParamStore

__all__ = [
    "LoadReport",
    "ParamStore",
    "clear_param_store",
    "current_store",
    "flatten_state",
    "get_param_store",
    "load_state",
    "load_tensors",
    "save_state",
    "save_tensors",
    "show_leaf",
    "undone_on_error",
    "unflatten_state",
    "using",
]
