"""The checks of a parameter that is declared once more."""

from __future__ import annotations

import numpy as np
import torch
from torch.distributions import constraints

from brancher.distributions.validation import is_validating
from brancher.errors import ParamError
from brancher.params.entry import Entry, Init, same_constraint, words


def check_constraint(name: str, declared: constraints.Constraint, given: constraints.Constraint) -> None:
    """Refuse another constraint than the declared one."""
    # Bounds may be tensors; looking at them is left out where nothing is validated.
    if is_validating() and not same_constraint(declared, given):
        raise ParamError(
            f"parameter '{name}': expected the declared constraint {words(declared)}, got "
            f"{words(given)}; use one constraint, or another name"
        )


def check_shape(name: str, declared: torch.Size, init: Init) -> None:
    """Refuse an initial value of another shape than the declared one; a callable is not asked."""
    if isinstance(init, torch.Tensor):
        shape: tuple[int, ...] = init.shape
    elif callable(init):
        return
    else:
        shape = np.shape(init)
    if shape != declared:
        raise ParamError(
            f"parameter '{name}': expected the declared shape {tuple(declared)}, got {tuple(shape)}; "
            "use one shape, another name, or clear_param_store()"
        )


def check_event_dim(entry: Entry, event_dim: int) -> None:
    """Refuse another event_dim than the declared one; note the first."""
    if entry.event_dim is not None:
        raise ParamError(
            f"parameter '{entry.name}': expected the declared event_dim {entry.event_dim}, got {event_dim}; "
            "use one event_dim"
        )
    entry.event_dim = event_dim
