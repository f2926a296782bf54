"""The common part of our own scalar families: parameters that broadcast, and uniform draws."""

from __future__ import annotations

import torch
from torch.distributions import Distribution as TorchDistribution

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import Number, expand_parameters, promote
from brancher.distributions.shapes import Size


class Elementwise(Distribution):
    """Abstract family whose event is one number and whose parameters broadcast to B.

    A subclass names its parameters in ``arg_constraints`` and passes them to ``__init__`` by
    name; they are kept as attributes of shape B.
    """

    def __init__(self, validate_args: bool | None = None, **parameters: Number) -> None:
        tensors = promote(self, **parameters)
        self.__dict__.update(zip(parameters, tensors, strict=True))
        super().__init__(tensors[0].shape, validate_args=validate_args)

    expand = expand_parameters

    def _uniform(self, sample_shape: Size) -> torch.Tensor:
        """Draw uniform numbers, never 0 or 1, in the parameters' dtype and device."""
        example = getattr(self, next(iter(self.arg_constraints)))
        return open_uniform(self._extended_shape(torch.Size(sample_shape)), example)


def open_uniform(shape: torch.Size, like: torch.Tensor) -> torch.Tensor:
    """Draw uniform numbers in the open unit interval, of the dtype and device of ``like``.

    Zero stands for the lowest cell of the generator's grid, so its midpoint replaces it.
    """
    u = torch.rand(shape, dtype=like.dtype, device=like.device)
    return u.clamp(min=torch.finfo(like.dtype).eps / 4)


def example_of(distribution: TorchDistribution) -> torch.Tensor:
    """Return a floating tensor with the dtype and device of a law's parameters.

    Example:
        >>> example_of(torch.distributions.Normal(torch.zeros(2), 1.0)).shape
        torch.Size([2])
    """
    base = getattr(distribution, "base_dist", None)
    for name in distribution.arg_constraints:
        value = getattr(distribution, name, None)
        if isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
            return value
    return torch.zeros(()) if base is None else example_of(base)
