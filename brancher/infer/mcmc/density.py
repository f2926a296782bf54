"""A density given as a function of tensors by name, in the shape that the sampler needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from brancher.errors import InferenceError, InferenceTypeError, UnknownNameError, nearest


class FunctionDensity:
    """Wraps ``potential_fn(params) -> energy``; the log density is minus the energy.

    Args:
        potential_fn: takes a dict of unconstrained tensors of one chain, returns a scalar tensor in nats.
        params: example values by name, without a dimension of chains.
        transforms: by name, from the values' own space to the unconstrained one; none where they are one.

    Raises:
        InferenceTypeError: the function does not return a scalar tensor.
    """

    def __init__(
        self,
        potential_fn: Callable[[dict[str, Tensor]], Tensor],
        params: Mapping[str, Tensor],
        transforms: Mapping[str, Transform] | None = None,
    ) -> None:
        self.potential_fn = potential_fn
        self.shapes = {name: value.shape for name, value in params.items()}
        first = next(iter(params.values()))
        self.like = first if first.is_floating_point() else first.to(torch.get_default_dtype())
        self.dim = sum(shape.numel() for shape in self.shapes.values())
        self.transforms = dict(transforms or {})
        self.check_names(self.transforms, "transforms")
        self.dims: dict[str, tuple[str, ...]] = {}
        self.coords: dict[str, list[Any]] = {}
        value = potential_fn({name: tensor.detach().clone() for name, tensor in params.items()})
        if not isinstance(value, Tensor) or value.dim() != 0:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InferenceTypeError(
                f"potential_fn: expected a tensor of shape () back, got {got}; sum over the data"
            )

    def log_prob(self, position: Tensor) -> Tensor:
        """Log density in nats; ``(C, D) -> (C,)``."""
        if position.shape[0] == 1:
            return self._single(position[0])[None]
        return torch.vmap(self._single)(position)

    def prepare(self, position: Tensor) -> None:
        """Nothing is to be found out."""

    def constrain(self, position: Tensor) -> dict[str, Tensor]:
        """Values by name, ``(N, *shape)``, for vectors ``(N, D)``."""
        values = self.split(position)
        return {
            name: self.transforms[name].inv(v) if name in self.transforms else v for name, v in values.items()
        }

    def pack(self, values: Mapping[str, Tensor], chains: int) -> Tensor:
        """Flat vectors ``(C, D)`` from values by name, with or without a dimension of chains."""
        self.check_names(values)
        pieces = []
        for name, shape in self.shapes.items():
            value = values[name].to(self.like)
            if value.shape == shape:
                value = value.expand(chains, *shape)
            if value.shape != (chains, *shape):
                raise InferenceError(
                    f"initial_params '{name}': expected shape {tuple(shape)} or {(chains, *shape)}, got "
                    f"{tuple(value.shape)}; give one value a chain"
                )
            pieces.append(value.reshape(chains, -1))
        return torch.cat(pieces, dim=-1).contiguous()

    def check_names(self, given: Mapping[str, Any], what: str = "initial_params") -> None:
        """Refuse names other than the known ones."""
        for name in given:
            if name not in self.shapes:
                raise UnknownNameError(
                    f"{what} '{name}': expected one of {list(self.shapes)}, got '{name}'"
                    f"{nearest(name, self.shapes)}"
                )

    def why_bad(self, position: Tensor) -> str:
        """Say what is wrong at one vector ``(D,)``."""
        return (
            f"potential_fn gives {float(-self._single(position)):g} there, or a gradient that is not finite"
        )

    def _single(self, position: Tensor) -> Tensor:
        return -self.potential_fn({name: value[0] for name, value in self.split(position[None]).items()})

    def split(self, position: Tensor) -> dict[str, Tensor]:
        """Unconstrained values by name, ``(N, *shape)``, of vectors ``(N, D)``."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = position.split(sizes, dim=-1)
        shapes = self.shapes.items()
        return {name: part.reshape(-1, *shape) for (name, shape), part in zip(shapes, parts, strict=True)}
