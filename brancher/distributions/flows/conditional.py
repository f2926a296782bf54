"""Flows whose shape depends on a context: each gives a plain transform by ``condition(context)``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributions.transforms import ComposeTransform, Transform

from brancher.distributions.flow_transforms import PlanarTransform
from brancher.distributions.flows.affine import AffineAutoregressive, AffineCoupling
from brancher.distributions.flows.dense import DenseNN
from brancher.distributions.flows.knots import Knots, LinearKnots, knots_of, order_of, sizes_of
from brancher.distributions.flows.masked import AutoRegressiveNN
from brancher.distributions.flows.module import TransformModule
from brancher.distributions.flows.splines import Spline, SplineAutoregressive
from brancher.distributions.shapes import broadcast_shapes

#: The transforms; networks are shown by ``brancher.nn``.
__all__ = [
    "ConditionalAffineAutoregressive",
    "ConditionalAffineCoupling",
    "ConditionalComposeTransformModule",
    "ConditionalPlanar",
    "ConditionalSpline",
    "ConditionalSplineAutoregressive",
    "ConditionalTransform",
    "ConditionalTransformModule",
    "conditional_affine_autoregressive",
    "conditional_affine_coupling",
    "conditional_planar",
    "conditional_spline",
    "conditional_spline_autoregressive",
]


class ConditionalDenseNN(DenseNN):
    """A :class:`DenseNN` of an input and a context.

    Args:
        input_dim: size of the input's last dimension.
        context_dim: size of the context's.
        hidden_dims: sizes of the hidden layers.
        param_dims: sizes of the outputs; several give a tuple of tensors.
        nonlinearity: between the layers.

    Example:
        >>> from brancher.nn import ConditionalDenseNN
        >>> ConditionalDenseNN(2, 3, [8], [1])(torch.ones(5, 2), torch.ones(3)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        input_dim: int,
        context_dim: int,
        hidden_dims: Sequence[int],
        param_dims: Sequence[int] = (1, 1),
        nonlinearity: nn.Module | None = None,
    ) -> None:
        super().__init__(context_dim + input_dim, hidden_dims, param_dims, nonlinearity)
        self.context_dim = context_dim

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:  # type: ignore[override]
        """One output, or a tuple of several, shape (..., size)."""
        batch = broadcast_shapes(x.shape[:-1], context.shape[:-1])
        parts = [part.expand(*batch, part.shape[-1]) for part in (context, x)]
        return super().forward(torch.cat(parts, -1))


class ConditionalAutoRegressiveNN(AutoRegressiveNN):
    """An :class:`AutoRegressiveNN` whose parameters for every entry depend on a context too.

    Args:
        input_dim: length d of the vector.
        context_dim: length of the context.
        hidden_dims: widths of the hidden layers.
        param_dims: sizes of the parameters of each entry.
        permutation: the order of the entries; from left to right by default.
        skip_connections: add a masked linear map from input to output.
        nonlinearity: between the layers; ReLU by default.
    """

    def __init__(
        self,
        input_dim: int,
        context_dim: int,
        hidden_dims: Sequence[int],
        param_dims: Sequence[int] = (1, 1),
        permutation: torch.Tensor | None = None,
        skip_connections: bool = False,
        nonlinearity: nn.Module | None = None,
    ) -> None:
        super().__init__(input_dim, hidden_dims, param_dims, permutation, skip_connections, nonlinearity)
        self.context_dim = context_dim
        # The context is before all entries: it joins every unit of the first layer, and the output of the
        # first entry, which sees no unit.
        self.from_context = nn.Linear(context_dim, self.layers[0].out_features, bias=False)  # type: ignore[arg-type]
        self.to_output = DenseNN(context_dim, hidden_dims, [sum(param_dims) * input_dim], nonlinearity)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:  # type: ignore[override]
        """One parameter, or a tuple of several, shape (..., d), or (..., size, d) where a size is above 1."""
        first = self.layers[0](x) + self.from_context(context)
        return self.parameters_of(x, self.layers[1:](first) + self.to_output(context))


class ConditionalTransform(ABC):
    """What gives a transform for a context."""

    @abstractmethod
    def condition(self, context: torch.Tensor) -> Transform:
        """The transform for a context, whose last dimension is the context's length."""


class ConditionalTransformModule(ConditionalTransform, nn.Module):
    """A conditional transform whose parameters are learned."""


class ConditionalComposeTransformModule(ConditionalTransformModule):
    """Several transforms, first to last, some of them conditional.

    Args:
        parts: the transforms.
        cache_size: of the composition.
    """

    def __init__(self, parts: Iterable[Any], cache_size: int = 0) -> None:
        super().__init__()
        self.transforms, self.cache_size = list(parts), cache_size
        self.held = nn.ModuleList(part for part in self.transforms if isinstance(part, nn.Module))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.transforms)

    def condition(self, context: torch.Tensor) -> Transform:
        """The composition for a context."""
        return ComposeTransform(
            [given(part, context) for part in self.transforms], cache_size=self.cache_size
        )


def given(part: Any, context: torch.Tensor) -> Any:
    """A part as it is for a context: conditional ones by ``condition``, others as they are."""
    return part.condition(context) if hasattr(part, "condition") else part


class ConditionalAffineCoupling(ConditionalTransformModule):
    """An :class:`AffineCoupling` whose network sees a context beside the entries that are left alone.

    Args:
        split_dim: how many entries are left alone.
        hypernet: from those entries and a context to shift and log-scale of the others, such as a
            :class:`ConditionalDenseNN`.
        **limits: see :class:`AffineCoupling`.
    """

    def __init__(self, split_dim: int, hypernet: nn.Module, **limits: float) -> None:
        super().__init__()
        self.split_dim, self.nn, self.limits = split_dim, hypernet, limits

    def condition(self, context: torch.Tensor) -> AffineCoupling:
        """The coupling for a context."""
        return AffineCoupling(self.split_dim, partial(self.nn, context=context), **self.limits)  # type: ignore[arg-type]


class Known:
    """An autoregressive network with its context filled in."""

    def __init__(self, network: ConditionalAutoRegressiveNN, context: torch.Tensor) -> None:
        self.network, self.context = network, context

    @property
    def permutation(self) -> torch.Tensor:
        return self.network.permutation

    def __call__(self, x: torch.Tensor) -> Any:
        return self.network(x, self.context)


class ConditionalAffineAutoregressive(ConditionalTransformModule):
    """An :class:`AffineAutoregressive` whose network sees a context.

    Args:
        autoregressive_nn: gives shift and log-scale, such as a :class:`ConditionalAutoRegressiveNN`.
        **limits: see :class:`AffineAutoregressive`.
    """

    def __init__(self, autoregressive_nn: ConditionalAutoRegressiveNN, **limits: float) -> None:
        super().__init__()
        self.arn, self.limits = autoregressive_nn, limits

    def condition(self, context: torch.Tensor) -> AffineAutoregressive:
        """The flow for a context."""
        return AffineAutoregressive(Known(self.arn, context), **self.limits)  # type: ignore[arg-type]


class _GivenSpline(Spline):
    """A spline with knots that are not its own parameters."""

    def __init__(self, parts: Sequence[torch.Tensor], bound: float, order: str) -> None:
        TransformModule.__init__(self)
        self.given, self.bound, self.order = parts, bound, order

    def _knots(self, like: torch.Tensor) -> Knots | LinearKnots:
        shapes = (broadcast_shapes(part.shape[:-1], like.shape) for part in self.given)
        parts = [part.expand(shape + part.shape[-1:]) for part, shape in zip(self.given, shapes, strict=True)]
        return knots_of(self.order, parts, self.bound)


class ConditionalSpline(ConditionalTransformModule):
    """A :class:`Spline` whose knots are computed from a context.

    Args:
        hypernet: from the context to d times K widths, K heights and K - 1 slopes, and K splits for linear
            splines, such as a ``DenseNN``.
        input_dim: length d of the vector.
        count_bins: pieces K of a spline.
        bound: see :class:`Spline`, as is ``order``.
        order: "quadratic" or "linear"; None for what the network's ``param_dims`` are for.
    """

    def __init__(
        self,
        hypernet: nn.Module,
        input_dim: int,
        count_bins: int = 8,
        bound: float = 3.0,
        order: str | None = None,
    ) -> None:
        super().__init__()
        self.order = order_of(order, hypernet)
        self.nn, self.input_dim, self.bound = hypernet, input_dim, bound

    def condition(self, context: torch.Tensor) -> Spline:
        """The splines for a context."""
        shape = (*context.shape[:-1], self.input_dim, -1)
        return _GivenSpline([part.reshape(shape) for part in self.nn(context)], self.bound, self.order)


class ConditionalSplineAutoregressive(ConditionalTransformModule):
    """A :class:`SplineAutoregressive` whose network sees a context.

    Args:
        input_dim: length of the vector.
        autoregressive_nn: gives K widths, K heights and K - 1 slopes for each entry, and K splits for linear
            splines.
        **options: see :class:`SplineAutoregressive`.
    """

    def __init__(
        self, input_dim: int, autoregressive_nn: ConditionalAutoRegressiveNN, **options: Any
    ) -> None:
        super().__init__()
        options["order"] = order_of(options.get("order"), autoregressive_nn)
        self.input_dim, self.arn, self.options = input_dim, autoregressive_nn, options

    def condition(self, context: torch.Tensor) -> SplineAutoregressive:
        """The flow for a context."""
        known: Any = Known(self.arn, context)
        return SplineAutoregressive(self.input_dim, known, **self.options)


class ConditionalPlanar(ConditionalTransformModule):
    """A planar flow whose numbers are computed from a context; see :class:`PlanarTransform`.

    Args:
        hypernet: from the context to a bias (1), a direction u (d) and a weight w (d), such as
            ``DenseNN(context_dim, hidden_dims, [1, d, d])``.
    """

    def __init__(self, hypernet: nn.Module) -> None:
        super().__init__()
        self.nn = hypernet

    def condition(self, context: torch.Tensor) -> PlanarTransform:
        """The flow for a context."""
        bias, direction, weight = self.nn(context)
        return PlanarTransform(weight, direction, bias.squeeze(-1))


def conditional_affine_coupling(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sequence[int] | None = None,
    split_dim: int | None = None,
    **limits: float,
) -> ConditionalAffineCoupling:
    """Make a :class:`ConditionalAffineCoupling`; half of the entries are left alone by default."""
    kept = input_dim // 2 if split_dim is None else split_dim
    moved = input_dim - kept
    network = ConditionalDenseNN(kept, context_dim, hidden_dims or [10 * input_dim], [moved, moved])
    return ConditionalAffineCoupling(kept, network, **limits)


def conditional_affine_autoregressive(
    input_dim: int, context_dim: int, hidden_dims: Sequence[int] | None = None, **limits: float
) -> ConditionalAffineAutoregressive:
    """Make a :class:`ConditionalAffineAutoregressive`; one hidden layer of ``10 * input_dim`` by default."""
    network = ConditionalAutoRegressiveNN(input_dim, context_dim, hidden_dims or [10 * input_dim])
    return ConditionalAffineAutoregressive(network, **limits)


def conditional_spline(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sequence[int] | None = None,
    count_bins: int = 8,
    bound: float = 3.0,
    order: str = "quadratic",
) -> ConditionalSpline:
    """Make a :class:`ConditionalSpline`; two hidden layers of ``10 * input_dim`` by default."""
    sizes = sizes_of(order, count_bins, input_dim)
    network = DenseNN(context_dim, hidden_dims or [10 * input_dim] * 2, sizes)
    return ConditionalSpline(network, input_dim, count_bins, bound, order)


def conditional_spline_autoregressive(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sequence[int] | None = None,
    count_bins: int = 8,
    bound: float = 3.0,
    order: str = "quadratic",
) -> ConditionalSplineAutoregressive:
    """Make a :class:`ConditionalSplineAutoregressive`; two hidden layers of ``10 * input_dim`` by default."""
    sizes = sizes_of(order, count_bins)
    widths = hidden_dims or [10 * input_dim] * 2
    network = ConditionalAutoRegressiveNN(input_dim, context_dim, widths, sizes)
    return ConditionalSplineAutoregressive(
        input_dim, network, count_bins=count_bins, bound=bound, order=order
    )


def conditional_planar(
    input_dim: int, context_dim: int, hidden_dims: Sequence[int] | None = None
) -> ConditionalPlanar:
    """Make a :class:`ConditionalPlanar`; two hidden layers of ``10 * input_dim`` by default."""
    widths = hidden_dims or [10 * input_dim] * 2
    return ConditionalPlanar(DenseNN(context_dim, widths, [1, input_dim, input_dim]))
