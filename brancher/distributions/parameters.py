"""Constructor arguments: numbers and tensors become tensors of one shape; ``expand`` for all families."""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeAlias, TypeVar

import torch
from torch.distributions import Distribution as TorchDistribution

from brancher.distributions.base import Distribution
from brancher.distributions.shapes import Size
from brancher.errors import DistributionError, DistributionTypeError

D = TypeVar("D", bound=Distribution)

SCALAR = torch.Size()
Number: TypeAlias = torch.Tensor | float


class _Held:
    """Lets an instance hold an attribute that torch's class computes by a property."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError(f"{type(instance).__name__} has no attribute '{self._name}'")


def held() -> Any:
    """Declare a parameter that is stored on the instance although torch's class has a property.

    Example:
        >>> class Family:
        ...     scale: torch.Tensor = held()
        >>> d = Family(); d.scale = 2.0; d.scale
        2.0
    """
    return _Held()


def promote(family: object, **arguments: Any) -> tuple[torch.Tensor, ...]:
    """Turn numbers and tensors into floating tensors of one common shape.

    Numbers take dtype and device from the first floating tensor among the arguments; without one
    the default dtype. Integer and bool tensors become floating in the same way.

    Args:
        family: the distribution being built; names the error.
        arguments: the values by parameter name.

    Raises:
        DistributionTypeError: an argument is neither a number nor a tensor.
        DistributionError: the shapes do not broadcast.

    Example:
        >>> promote("Normal", loc=torch.zeros(3), scale=1)
        (tensor([0., 0., 0.]), tensor([1., 1., 1.]))
    """
    tensors = to_tensors(family, **arguments)
    shapes = [tensor.shape for tensor in tensors]
    if all(shape == shapes[0] for shape in shapes):
        return tensors
    largest = max(shapes, key=len)
    if all(not shape or shape == largest for shape in shapes):
        return tuple([tensor.expand(largest) for tensor in tensors])
    try:
        return tuple(torch.broadcast_tensors(*tensors))
    except RuntimeError:
        given = ", ".join(f"{name} {tuple(t.shape)}" for name, t in zip(arguments, tensors, strict=True))
        raise DistributionError(
            f"{name_of(family)}: expected parameters whose shapes broadcast together, got {given}; "
            "insert dimensions of size 1 where they differ"
        ) from None


def to_tensors(family: object, **arguments: Any) -> tuple[torch.Tensor, ...]:
    """Turn numbers and tensors into floating tensors, each keeping its own shape.

    Example:
        >>> [t.shape for t in to_tensors("Gumbel", loc=torch.zeros(3), scale=1)]
        [torch.Size([3]), torch.Size([])]
    """
    values = tuple(arguments.values())
    for value in values:
        if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
            return _converted(family, arguments)
    return values


def _converted(family: object, arguments: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    dtype, device = torch.get_default_dtype(), None
    for value in arguments.values():
        if isinstance(value, torch.Tensor):
            device = value.device
            if value.dtype.is_floating_point:
                dtype = value.dtype
                break
    converted = []
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor) and not value.dtype.is_complex:
            converted.append(value if value.dtype.is_floating_point else value.to(dtype))
        elif isinstance(value, (float, int, Real)):
            converted.append(torch.full((), float(value), dtype=dtype, device=device))
        else:
            raise DistributionTypeError(
                f"{name_of(family)}: expected parameter '{name}' as a real number or tensor, got "
                f"{_kind(value)}; convert it with torch.as_tensor"
            )
    return tuple(converted)


def _kind(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"{type(value).__name__} of {dtype}"


def one_of(family: object, **arguments: Any) -> str:
    """Return the name of the only argument that is not None.

    Raises:
        DistributionError: none or several were given.

    Example:
        >>> one_of("Bernoulli", probs=0.5, logits=None)
        'probs'
    """
    given = [name for name, value in arguments.items() if value is not None]
    if len(given) != 1:
        raise DistributionError(
            f"{name_of(family)}: expected exactly one of {', '.join(arguments)}, got "
            f"{' and '.join(given) or 'none of them'}; "
            "give one of them"
        )
    return given[0]


def name_of(family: object) -> str:
    """Return the class name that an error should show."""
    return family if isinstance(family, str) else type(family).__name__


def expand_parameters(self: D, batch_shape: Size, _instance: Any = None) -> D:
    """Return a copy whose parameters are views for the batch shape; nothing is checked or computed anew.

    Tensors named in ``arg_constraints`` keep their event dimensions, inner distributions whose batch
    shape begins with ours expand along, every other attribute is taken over as it is.
    """
    batch_shape = torch.Size(batch_shape)
    new = self.__new__(type(self)) if _instance is None else _instance
    constraints: Any = self.arg_constraints
    old = self._batch_shape
    for name, value in self.__dict__.items():
        if isinstance(value, torch.Tensor) and name in constraints:
            cut = value.dim() - constraints[name].event_dim
            try:
                value = value.expand(batch_shape + value.shape[cut:])
            except RuntimeError:
                raise DistributionError(
                    f"{type(self).__name__}: expected a batch shape that {tuple(old)} expands to, got "
                    f"{tuple(batch_shape)}; sizes other than 1 must stay, at the right"
                ) from None
        elif isinstance(value, TorchDistribution) and value.batch_shape[: len(old)] == old:
            value = value.expand(batch_shape + value.batch_shape[len(old) :])
        new.__dict__[name] = value
    new._batch_shape = batch_shape
    return new
