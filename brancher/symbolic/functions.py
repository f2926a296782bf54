"""``BF``: the functions of torch on expressions.

Every function of ``torch``, ``torch.nn.functional``, ``torch.special`` and ``torch.linalg`` is here
under its own name: ``BF.sin(b)``, ``BF.softplus(x)``, ``BF.cholesky(k)``; a namespace of torch can be
named as well, ``BF.linalg.inv(k)``. Functions of entries broadcast data. In all others dimension 0 is
the batch of samples and data points, and data begin at dimension 1.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from brancher.errors import SiteTypeError, nearest
from brancher.symbolic.calls import Call, emptied
from brancher.symbolic.elementwise_names import (
    ALONG_LAST,
    ELEMENTWISE,
    NEEDS_TENSORS,
    REDUCTIONS,
    WITHOUT_BATCH,
)
from brancher.symbolic.expressions import Expression, as_expression
from brancher.symbolic.special import SPECIAL

# functional first: torch has other functions of some of its names, meant for itself.
_PLACES: tuple[Any, ...] = (functional, torch, torch.special, torch.linalg)
#: Deprecated in torch, or without a batch there.
_BETTER = {name: getattr(torch.linalg, name) for name in ("cholesky", "cross", "diagonal", "qr")}
_DIMENSIONS = frozenset(["dim", "dims", "axis", "axes", "start_dim", "end_dim"])
_NAMESPACES = {"linalg": torch.linalg, "special": torch.special, "fft": torch.fft, "functional": functional}


def lifted(name: str, fn: Callable[..., Any]) -> Callable[..., Expression]:
    """Make a function of expressions of a function of tensors.

    Args:
        name: how torch calls it, which decides how it treats dimensions.
        fn: the function.
    """
    if name in SPECIAL:
        return SPECIAL[name]

    def call(*args: Any, **kwargs: Any) -> Expression:
        if name in ELEMENTWISE:
            return Call(name, fn, _operands(name, args), kwargs, is_elementwise=True)
        if not _has_expression((args, kwargs)):
            return as_expression(fn(*_as_tensors(args), **kwargs))
        if name in REDUCTIONS:
            return _reduced(name, fn, args, kwargs)
        if name in ALONG_LAST and len(args) < 2 and not kwargs.keys() & {"dim", "dims"}:
            kwargs = {**kwargs, **_last_dimension(name)}
        if _is_without_batch(name, args, kwargs):
            return Call(name, torch.vmap(fn), _operands(name, args), kwargs)
        return Call(name, fn, args, kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"``{name}`` of torch, on expressions."
    return call


def _last_dimension(name: str) -> dict[str, Any]:
    return {"dims": (-1,)} if name in ("flip", "roll") else {"dim": -1}


def _is_without_batch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    count = WITHOUT_BATCH.get(name, -1)
    return count is None or (count >= 0 and len(args) <= count and not kwargs.keys() & _DIMENSIONS)


def _operands(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    is_first = True
    operands = []
    for arg in args:
        plain = isinstance(arg, (bool, int, float)) and not (is_first or name in NEEDS_TENSORS)
        operands.append(
            arg if plain or isinstance(arg, str) or arg is None else as_expression(arg, f"BF.{name}")
        )
        is_first = False
    return tuple(operands)


def _has_expression(item: Any) -> bool:
    found: list[Expression] = []
    emptied(item, found)
    return bool(found)


def _as_tensors(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(torch.as_tensor(arg) if isinstance(arg, np.ndarray) else arg for arg in args)


def _reduced(name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Expression:
    if name in ("max", "min") and len(args) == 2 and not isinstance(args[1], int):
        return lifted(f"{name}imum", getattr(torch, f"{name}imum"))(*args)
    place = 2 if name in ("norm", "vector_norm", "quantile", "nanquantile") else 1
    dims = kwargs.get("dim", kwargs.get("axis", args[place] if len(args) > place else None))
    if dims is None:
        whole: Any = {"max": torch.amax, "min": torch.amin}.get(name, fn)

        def reduce_all(x: torch.Tensor, *rest: Any, **options: Any) -> Any:
            result = whole(x.flatten(1), *rest, **{**options, "dim": 1})
            return result.values if name in ("median", "nanmedian") else result

        return Call(name, reduce_all, args, kwargs)
    if 0 in (dims if isinstance(dims, (tuple, list)) else (dims,)):
        raise SiteTypeError(
            f"BF.{name}: expected a dimension of the data, dim >= 1 or < 0, got dim={dims}; "
            "dimension 0 is the "
            "batch of samples and data points"
        )
    return Call(name, fn, args, kwargs)


def BrancherFunction(f: Any) -> Callable[..., Expression]:
    """Make a function of expressions of any callable or network.

    It is called with tensors whose dimension 0 is the batch. A network's parameters are learned
    with the model. It may return a dict or tuple of tensors: ``net(x)["mean"]``.

    Args:
        f: a callable; a ``torch.nn.Module``, or a method of one.

    Raises:
        SiteTypeError: it can not be called.

    Example:
        >>> from brancher.symbolic import BF, NormalVariable
        >>> x = NormalVariable([0.0, 0.0], 1.0, "x")
        >>> print(BF.BrancherFunction(torch.nn.Linear(2, 1))(x))
        Linear(x)
    """
    if not callable(f):
        raise SiteTypeError(
            f"BrancherFunction: expected a callable or torch.nn.Module, got {type(f).__name__}"
        )
    label = getattr(f, "__name__", type(f).__name__)
    return lambda *args, **kwargs: Call(label, f, args, kwargs)


class _Namespace:
    """The functions of one module of torch."""

    def __init__(self, name: str, module: ModuleType) -> None:
        self._name, self._module = name, module

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        fn = getattr(self._module, name, None)
        if name.startswith("_") or not callable(fn):
            raise AttributeError(
                f"BF.{self._name}: torch has no function '{name}'{nearest(name, dir(self._module))}"
            )
        return lifted(name, fn)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if name in SPECIAL:
        return SPECIAL[name]
    if name in _NAMESPACES:
        return _Namespace(name, _NAMESPACES[name])
    if name in _BETTER:
        return lifted(name, _BETTER[name])
    for place in _PLACES:
        fn = getattr(place, name, None)
        if callable(fn) and not name.startswith("_"):
            return lifted(name, fn)
    known = [each for place in _PLACES for each in dir(place)]
    raise AttributeError(f"BF: expected a function of torch, got '{name}'{nearest(name, known) or ''}")


def __dir__() -> list[str]:
    found = {each for place in _PLACES for each in dir(place) if each.islower() and not each.startswith("_")}
    return sorted(found | SPECIAL.keys() | {"BrancherFunction"})
