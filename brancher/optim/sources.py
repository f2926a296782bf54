"""Where a torch optimizer comes from: a class with options, a factory, or an existing instance."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.optim import Optimizer as TorchOptimizer

from brancher.errors import OptimError, OptimTypeError
from brancher.optim.direct import leave_dynamo_out

Options: TypeAlias = Mapping[str, Any] | Callable[..., Mapping[str, Any]]
Leaves: TypeAlias = Mapping[str, torch.Tensor]

# ASGD's foreach form drifts from its loop: 1e-5 after 200 steps from 1 in float32.
_NO_FOREACH = (torch.optim.ASGD,)


class Made(NamedTuple):
    """A torch optimizer over new leaves, with what tells its groups apart.

    Attributes:
        optimizer: holds the new leaves only.
        keys: one for each parameter group; groups with equal keys can be joined.
    """

    optimizer: TorchOptimizer
    keys: list[Any]


class Source(ABC):
    """Makes the torch optimizer for parameters that have none yet."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the kind of optimizer, as far as it is known."""

    @abstractmethod
    def make(self, leaves: Leaves) -> Made:
        """Make an optimizer over these leaves, by parameter name."""

    @abstractmethod
    def example(self) -> TorchOptimizer | None:
        """Make one over a made-up parameter, so that bad options are found early."""


class FromClass(Source):
    """A torch optimizer class and its options, one set for all or one for each name."""

    def __init__(self, make: type[TorchOptimizer], options: Options) -> None:
        if issubclass(make, torch.optim.LBFGS):
            raise OptimError(
                "optimizer 'LBFGS': expected one that steps on a given gradient, got LBFGS, which evaluates "
                "the loss again; use Adam, or pass the ELBO module's loss to torch.optim.LBFGS yourself"
            )
        if not callable(options) and not isinstance(options, Mapping):
            raise OptimTypeError(
                f"optimizer '{make.__name__}': expected options as a dict or a function of the parameter's "
                f"name, got {type(options).__name__}; write {make.__name__}({{'lr': 0.01}})"
            )
        self.make_torch = make
        self.options = options
        self._accepted = frozenset(inspect.signature(make).parameters)

    @property
    def name(self) -> str:
        return self.make_torch.__name__

    def make(self, leaves: Leaves) -> Made:
        keys: list[Any] = []
        groups: list[dict[str, Any]] = []
        for name, leaf in leaves.items():
            options = options_for(self.options, name, self.name)
            key = {**self._fastest(options, leaf), **options}
            if key not in keys:
                self._build([torch.zeros(1, 1, requires_grad=True)], options, f" for parameter '{name}'")
                keys.append(key)
                groups.append({"params": [], **key})
            groups[keys.index(key)]["params"].append(leaf)
        # Options of the first group go through the class's own checks once more, as it expects.
        return Made(self._build(groups, keys[0]), keys)

    def example(self) -> TorchOptimizer | None:
        if callable(self.options):
            return self._build([torch.zeros(1, 1, requires_grad=True)], {})
        # A schedule that is tried on the example would change a rate that is a tensor in place.
        own = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in self.options.items()}
        return self._build([torch.zeros(1, 1, requires_grad=True)], own)

    def _build(self, params: list[Any], options: Mapping[str, Any], place: str = "") -> TorchOptimizer:
        try:
            lr = options.get("lr", 0.0)
            if not isinstance(lr, torch.Tensor) and not math.isfinite(lr):
                raise ValueError(f"Invalid learning rate: {lr}")
            leave_dynamo_out()
            return self.make_torch(params, **options)
        except (ValueError, TypeError, RuntimeError) as error:
            raise OptimError(
                f"optimizer '{self.name}': expected valid options{place}, got {dict(options)} ({error}); "
                f"correct them, as in {self.name}({{'lr': 0.01}})"
            ) from error

    def _fastest(self, options: Mapping[str, Any], leaf: torch.Tensor) -> dict[str, bool]:
        """Choose the implementation where torch's own choice is the slowest: on the CPU."""
        chosen = {"foreach", "fused", "differentiable", "capturable"} & options.keys()
        plain = type(leaf) in (torch.Tensor, torch.nn.Parameter) and leaf.device.type == "cpu"
        if chosen or not plain:
            return {}
        dense = leaf.is_contiguous() and leaf.dtype in (torch.float32, torch.float64)
        if "fused" in self._accepted and dense:
            return {"fused": True}
        if "foreach" in self._accepted and not issubclass(self.make_torch, _NO_FOREACH):
            return {"foreach": True}
        return {}


class FromFactory(Source):
    """A function from a list of tensors to a torch optimizer."""

    def __init__(self, factory: Callable[..., Any]) -> None:
        self.factory = factory

    @property
    def name(self) -> str:
        return getattr(self.factory, "__name__", type(self.factory).__name__)

    def make(self, leaves: Leaves) -> Made:
        made = self.factory(list(leaves.values()))
        if not isinstance(made, TorchOptimizer):
            raise OptimTypeError(
                f"optimizer: expected the factory '{self.name}' to return a torch optimizer, got "
                f"{type(made).__name__}; return for example torch.optim.Adam(params)"
            )
        missing = _not_held(made, leaves)
        if missing:
            raise OptimError(
                f"optimizer: expected the factory '{self.name}' to return an optimizer of the tensors it is "
                f"given, got one without {missing}; return for example torch.optim.Adam(params)"
            )
        return Made(made, list(range(len(made.param_groups))))

    def example(self) -> TorchOptimizer | None:
        return None


class FromInstance(Source):
    """A torch optimizer that holds its parameters already."""

    def __init__(self, instance: TorchOptimizer) -> None:
        self.instance = instance

    @property
    def name(self) -> str:
        return type(self.instance).__name__

    def make(self, leaves: Leaves) -> Made:
        foreign = _not_held(self.instance, leaves)
        if foreign:
            raise OptimError(
                f"optimizer '{self.name}': expected an instance that holds every parameter, got one without "
                f"{foreign}; pass the class or brancher.optim.{self.name} instead"
            )
        return Made(self.instance, list(range(len(self.instance.param_groups))))

    def example(self) -> TorchOptimizer | None:
        return None


def _not_held(optimizer: TorchOptimizer, leaves: Leaves) -> list[str]:
    held = {id(leaf) for group in optimizer.param_groups for leaf in group["params"]}
    return [name for name, leaf in leaves.items() if id(leaf) not in held]


def options_for(options: Options, name: str, optimizer: str) -> dict[str, Any]:
    """Return the options of one parameter.

    A function of one argument is given the parameter's name; one of two, the module's name and
    the name within the module.
    """
    if not callable(options):
        return dict(options)
    module, _, inner = name.partition(".")
    if not inspect.signature(options).parameters:
        raise OptimTypeError(
            f"optimizer '{optimizer}': expected options as a dict or a function of the parameter's name, got "
            "a function without arguments; write lambda name: {'lr': 0.01}"
        )
    arguments = (name,) if _positional(options) < 2 else (module, inner or module)
    found = options(*arguments)
    if not isinstance(found, Mapping):
        raise OptimTypeError(
            f"optimizer '{optimizer}': expected the options of parameter '{name}' as a dict, got "
            f"{type(found).__name__}; return for example {{'lr': 0.01}}"
        )
    return dict(found)


def _positional(function: Callable[..., Any]) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)
