"""One declared parameter: its unconstrained leaf, its constraint, and the checks of a new value."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.distributions import constraints, transform_to
from torch.distributions.transforms import AffineTransform, ComposeTransform, IndependentTransform, Transform

from brancher.errors import BrancherWarning, ParamError, ParamTypeError

Init: TypeAlias = torch.Tensor | np.ndarray[Any, Any] | float | Callable[[], Any]


@dataclass(slots=True)
class Entry:
    """A parameter that the store owns.

    Attributes:
        name: the parameter's name.
        leaf: unconstrained tensor with ``requires_grad``.
        constraint: where the constrained value lies.
        transform: from leaf to constrained value; None where both are the same.
        shape: of the constrained value.
        event_dim: rightmost dimensions of the constrained value that no plate subsamples; None for all.
        serial: place in the order of declaration.
        adoptable: read from a file as a module's parameter whose module is not registered yet.
    """

    name: str
    leaf: torch.Tensor
    constraint: constraints.Constraint
    transform: Transform | None
    shape: torch.Size
    event_dim: int | None
    serial: int
    adoptable: bool = False

    def read(self, leaf: torch.Tensor) -> torch.Tensor:
        """Return the constrained value that ``leaf`` stands for."""
        return leaf if self.transform is None else self.transform(leaf)


def new_entry(
    name: str, init: Any, constraint: constraints.Constraint, event_dim: int | None, serial: int
) -> Entry:
    """Check a first value and make an entry from a copy of it.

    Args:
        name: the parameter's name.
        init: tensor, array, number or a callable that returns one.
        constraint: where the value lies.
        event_dim: rightmost dimensions that no plate subsamples; None for all.
        serial: place in the order of declaration.

    Raises:
        ParamError: the value lies outside the constraint, or the constraint has no transform.
        ParamTypeError: the value is no tensor, array or number, or its dtype is not floating.
    """
    check_name(name)
    transform = transform_for(name, constraint)
    value = first_value(name, init)
    _check_event_dim(name, value, constraint, event_dim)
    leaf = make_leaf(unconstrain(name, value, constraint, transform))
    return Entry(name, leaf, constraint, transform, value.shape, event_dim, serial)


def make_leaf(value: torch.Tensor) -> torch.Tensor:
    """Return a copy of ``value`` that gradients can be taken for."""
    # An inference tensor could never enter autograd, so the copy is made outside that mode.
    with torch.inference_mode(False):
        return value.detach().clone().requires_grad_()


def check_name(name: object) -> None:
    """Refuse anything but a non-empty string as a parameter's name."""
    if not isinstance(name, str):
        raise ParamTypeError(
            f"parameter {name!r}: expected name as a str, got {type(name).__name__}; give it a string"
        )
    if not name:
        raise ParamError("parameter '': expected name as a non-empty str, got ''; give it a name")


def transform_for(name: str, constraint: object) -> Transform | None:
    """Return the transform from the reals into ``constraint``, None for the identity."""
    if not isinstance(constraint, constraints.Constraint):
        raise ParamTypeError(
            f"parameter '{name}': expected constraint as a Constraint, got {type(constraint).__name__}; "
            "use one of brancher.distributions.constraints"
        )
    try:
        transform = transform_to(constraint)
    except NotImplementedError as error:
        raise ParamError(
            f"parameter '{name}': expected a constraint with a transform from the reals, got "
            f"{words(constraint)}; register one with torch.distributions.transform_to.register"
        ) from error
    return None if _is_identity(transform) else _simplified(transform)


def first_value(name: str, init: Any) -> torch.Tensor:
    """Evaluate a callable initial value and convert to a tensor."""
    if hasattr(init, "log_prob"):
        raise ParamTypeError(
            f"parameter '{name}': expected a value to start at, got the distribution "
            f"{type(init).__name__}; write sample('{name}', ...) for a random variable, or give a value"
        )
    if callable(init) and not isinstance(init, torch.Tensor):
        init = init()
    return as_value(name, init)


def as_value(name: str, value: Any) -> torch.Tensor:
    """Convert a number or array to a tensor; refuse what is not floating."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        tensor = torch.tensor(float(value))
    elif isinstance(value, torch.Tensor):
        tensor = value
    elif isinstance(value, (bool, list, tuple, np.generic, np.ndarray)) or hasattr(value, "__array__"):
        tensor = _from_array(name, value)
    else:
        raise _bad_kind(name, value)
    if not tensor.is_floating_point():
        raise ParamTypeError(
            f"parameter '{name}': expected a floating dtype, got {tensor.dtype}; "
            "convert the initial value, for example with .float()"
        )
    return tensor


def unconstrain(
    name: str, value: torch.Tensor, constraint: constraints.Constraint, transform: Transform | None
) -> torch.Tensor:
    """Check a value against its constraint and map it to the reals.

    Positive weights for a simplex are divided by their sums, with a warning.

    Raises:
        ParamError: entries lie outside the constraint or on its boundary, or are not finite.
    """
    value = value.detach()
    valid: Callable[[torch.Tensor], torch.Tensor] = constraint.check
    if value.dim() < constraint.event_dim:
        raise ParamError(
            f"parameter '{name}': expected at least {constraint.event_dim} dimension(s) for "
            f"{words(constraint)}, got shape {tuple(value.shape)}; reshape the value"
        )
    if getattr(constraint, "base_constraint", constraint) is constraints.simplex:
        value = _normalised(name, value)
    _check_all(name, value, valid(value), words(constraint))
    if transform is None:
        _check_all(name, value, torch.isfinite(value), "finite")
        return value
    free: torch.Tensor = transform.inv(value)
    finite = torch.isfinite(free)
    if free.shape == value.shape:
        _check_all(name, value, finite, f"inside {words(constraint)}, off its boundary")
    _check_all(name, free, finite, f"finite once mapped from {words(constraint)} to the reals")
    return free


def _normalised(name: str, value: torch.Tensor) -> torch.Tensor:
    """Positive weights as probabilities; anything else as it is."""
    if value.is_meta or not bool((value > 0).all() & torch.isfinite(value).all()):
        return value
    total = value.sum(-1, keepdim=True)
    # The tolerance of the constraint itself.
    if bool(((total - 1).abs() < 1e-6).all()):
        return value
    warnings.warn(
        f"parameter '{name}': expected a first value whose rows sum to 1, got sums from "
        f"{float(total.min()):.3g} to {float(total.max()):.3g}; they are divided by their sums",
        BrancherWarning,
        stacklevel=2,
    )
    return value / total


def same_constraint(a: constraints.Constraint, b: constraints.Constraint) -> bool:
    """Tell whether two constraints describe the same set."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    mine, theirs = vars(a), vars(b)
    return mine.keys() == theirs.keys() and all(_same(mine[key], theirs[key]) for key in mine)


def words(constraint: constraints.Constraint) -> str:
    """Describe a constraint in a message."""
    return str(constraint).removesuffix("()")


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, constraints.Constraint) and isinstance(b, constraints.Constraint):
        return same_constraint(a, b)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        equal = torch.as_tensor(a).cpu() == torch.as_tensor(b).cpu()
        return np.shape(a) == np.shape(b) and bool(equal.all())
    return bool(a == b)


def _is_identity(transform: Transform) -> bool:
    if isinstance(transform, IndependentTransform):
        return _is_identity(transform.base_transform)
    if isinstance(transform, AffineTransform):
        numbers = isinstance(transform.loc, (int, float)) and isinstance(transform.scale, (int, float))
        return numbers and bool(transform.loc == 0) and bool(transform.scale == 1)
    return isinstance(transform, ComposeTransform) and all(map(_is_identity, transform.parts))


def _simplified(transform: Transform) -> Transform:
    """Leave out steps that do nothing: torch maps to ``positive`` by exp(x) * 1 + 0."""
    if not isinstance(transform, ComposeTransform):
        return transform
    parts = [_simplified(part) for part in transform.parts if not _is_identity(part)]
    return parts[0] if len(parts) == 1 else ComposeTransform(parts)


def _from_array(name: str, value: Any) -> torch.Tensor:
    try:
        if isinstance(value, (bool, list, tuple)):
            return torch.tensor(value)
        return torch.tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise _bad_kind(name, value) from error


def _bad_kind(name: str, value: Any) -> ParamTypeError:
    return ParamTypeError(
        f"parameter '{name}': expected a value as a tensor, array, number or a callable that returns one, "
        f"got {type(value).__name__}; convert it with torch.as_tensor"
    )


def _check_event_dim(
    name: str, value: torch.Tensor, constraint: constraints.Constraint, event_dim: int | None
) -> None:
    if event_dim is not None and (isinstance(event_dim, bool) or not isinstance(event_dim, int)):
        raise ParamTypeError(
            f"parameter '{name}': expected event_dim as an int or None, got {event_dim!r} of type "
            f"{type(event_dim).__name__}; write event_dim=1 for a vector"
        )
    if event_dim is None or constraint.event_dim <= event_dim <= value.dim():
        return
    raise ParamError(
        f"parameter '{name}': expected event_dim from {constraint.event_dim} ({words(constraint)}) to "
        f"{value.dim()} (shape {tuple(value.shape)}), got {event_dim}; correct event_dim"
    )


def _check_all(name: str, value: torch.Tensor, valid: torch.Tensor, expected: str) -> None:
    if value.is_meta or bool(valid.all()):
        return
    bad = (~valid).nonzero()
    first = tuple(bad[0].tolist())
    shown = value[first].tolist()
    where = f" at index {first}" if first else ""
    raise ParamError(
        f"parameter '{name}': expected a value of shape {tuple(value.shape)} that is {expected}, "
        f"got {len(bad)} offending, the first {shown}{where}; change the value or the constraint"
    )
