"""Learnable values by name, in stores that have an owner."""

from __future__ import annotations

from brancher.params.state import LoadReport
from brancher.params.store import ParamStore, clear_param_store, current_store, get_param_store

__all__ = ["LoadReport", "ParamStore", "clear_param_store", "current_store", "get_param_store"]
