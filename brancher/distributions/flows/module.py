"""A transform that is a torch module as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.distributions import constraints
from torch.distributions.transforms import ComposeTransform, Transform


class TransformModule(Transform, nn.Module):
    """A bijection of vectors whose parameters are learned; register it by ``module(name, transform)``.

    Subclasses define ``_call(x)``, ``_inverse(y)`` and ``log_abs_det_jacobian(x, y)``.

    Args:
        cache_size: 1 to remember the last pair (x, y), for a map that is slow to invert; 0 not to.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)

    def __getstate__(self) -> dict[str, Any]:
        # The last pair belongs to a graph, which can be neither copied nor pickled.
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[no-untyped-call]
        if "_cached_x_y" in state:
            state["_cached_x_y"] = None, None
        return state

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class ComposeTransformModule(ComposeTransform, nn.ModuleList):
    """Several transforms, first to last, some of them modules.

    Example:
        >>> from brancher.distributions.transforms import ComposeTransformModule, Spline
        >>> len(ComposeTransformModule([Spline(2), Spline(2)]))
        2
    """

    def __init__(self, parts: Iterable[Transform], cache_size: int = 0) -> None:
        nn.ModuleList.__init__(self)
        chosen = list(parts)
        ComposeTransform.__init__(self, chosen, cache_size=cache_size)
        self.extend(part for part in chosen if isinstance(part, nn.Module))

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def iterated(
    repeats: int, base_fn: Callable[..., Transform], *args: Any, **kwargs: Any
) -> ComposeTransformModule:
    """Compose several new transforms of one kind.

    Args:
        repeats: how many.
        base_fn: makes one.
        *args: its arguments.
        **kwargs: its keyword arguments.

    Example:
        >>> from brancher.distributions.transforms import affine_coupling, iterated
        >>> len(iterated(3, affine_coupling, 4))
        3
    """
    return ComposeTransformModule([base_fn(*args, **kwargs) for _ in range(repeats)])
