"""Transformations of random variables, their densities with them: normalising flows.

A transformation of a variable is a variable with a law of its own. Nested ones make a flow::

    z = PlanarFlow(size=2)(TriangularLinear(size=2)(NormalVariable([0.0, 0.0], 1.0, "z", learnable=True)))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributions.transforms import AffineTransform, ExpTransform, SigmoidTransform, Transform

from brancher.distributions import TransformedDistribution, constraints
from brancher.distributions.flow_transforms import CenteredSoftmaxTransform, PlanarTransform
from brancher.distributions.shapes import broadcast_shapes
from brancher.distributions.transforms import LowerCholeskyAffine
from brancher.errors import SiteError, SiteTypeError
from brancher.symbolic.batches import Value, raised
from brancher.symbolic.calls import Call
from brancher.symbolic.expressions import Expression, as_expression
from brancher.symbolic.families import Family
from brancher.symbolic.parameters import Parameter, learnable
from brancher.symbolic.variables import RandomVariable, Variable

#: Spread of the first values of flows that are given by their size: close to the identity, not on it.
_FIRST_SPREAD = 0.1


class Transformation(ABC):
    """A bijection with settings: the base of :class:`PlanarFlow` and its like.

    Called with a random variable it gives the transformed one. The first variable lends its law and its
    name, and is no part of the model itself.
    """

    #: Data dimensions that one application needs.
    rank = 0
    #: Data dimensions of settings that have the size of what is transformed; others broadcast with it.
    setting_ranks: Mapping[str, int] = {}

    def __init__(self, settings: Mapping[str, Expression] | None = None) -> None:
        self.settings = dict(settings or {})

    @abstractmethod
    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        """The bijection of tensors.

        Args:
            values: of the settings.
            rank: data dimensions of what is transformed.
        """

    def __call__(self, variable: RandomVariable, name: str | None = None) -> TransformedVariable:
        """The transformed variable.

        Args:
            variable: a random variable.
            name: of the transformed one; that of ``variable`` for None.

        Raises:
            SiteTypeError: it is no random variable.
        """
        if not isinstance(variable, RandomVariable):
            raise SiteTypeError(
                f"{type(self).__name__}: expected a random variable, got {type(variable).__name__}; "
                "functions of expressions are in BF"
            )
        return TransformedVariable(variable, self, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.settings.items())})"


class TransformedVariable(RandomVariable):
    """A random variable sent through a transformation.

    Args:
        base: lends its law.
        transformation: the bijection.
        name: unique within a model; the base's for None.
    """

    def __init__(self, base: RandomVariable, transformation: Transformation, name: str | None = None) -> None:
        arguments = dict(base.arguments)
        label = type(transformation).__name__
        for key, setting in transformation.settings.items():
            own = _free(f"{label}_{key}", arguments)
            arguments[own] = setting
            if isinstance(setting, Parameter) and setting.owner == label:
                setting.owner, setting.argument = name or base.name, own
        Variable.__init__(self, base.name if name is None else name, arguments)
        self.base, self.transformation = base, transformation
        self.family = Family(  # type: ignore[misc]
            f"{label}({base.family.name})", TransformedDistribution, base.family.arguments, None
        )
        self.learnable, self.is_declared_observed = base.learnable, base.is_declared_observed
        self.options: dict[str, Any] = {}
        self.data, self.is_silent = None, False

    def law(self, values: Sequence[Value], is_vector: bool | None = None) -> tuple[Any, int]:
        count = len(self.base.arguments)
        base, rank = self.base.law(values[:count], is_vector)
        if rank < self.transformation.rank:
            raise SiteError(
                f"variable '{self.name}': expected a vector to transform by "
                f"{type(self.transformation).__name__}, got the numbers of {type(self.base).__name__}"
            )
        settings = values[count:]
        for key, value in zip(self.transformation.settings, settings, strict=True):
            if isinstance(value.tensor, torch.Tensor):
                _check(self, key, value, base.event_shape)
        batches = [
            value.tensor.shape[: value.tensor.dim() - value.rank]
            for value in settings
            if isinstance(value.tensor, torch.Tensor)
        ]
        batch = broadcast_shapes(base.batch_shape, *batches)
        law = TransformedDistribution(
            base if batch == base.batch_shape else base.expand(batch),
            [_remembering(self.transformation.transform(settings, rank))],
        )
        return law, len(law.event_shape)

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return self.base.static_rank(ranks[: len(self.base.arguments)])


def _check(variable: TransformedVariable, key: str, value: Value, event: torch.Size) -> None:
    """Refuse settings of another size than the data: they would make one draw do for several entries."""
    exact = variable.transformation.setting_ranks.get(key)
    got = tuple(value.shape)
    if exact is not None:
        fits = got == (event[-1],) * exact
    else:
        fits = len(got) <= len(event) and broadcast_shapes(got, event) == event
    if not fits:
        raise SiteError(
            f"variable '{variable.name}': expected '{key}' of {type(variable.transformation).__name__} to "
            f"fit values of shape {tuple(event)}, got shape {got}"
            + ("; vectors are of shape (D,) here, without a 1 behind" if event[1:] and event[-1] == 1 else "")
        )


def _remembering(transform: Transform) -> Transform:
    """The transform, with its last draw remembered where it can be: densities of draws need no inverse."""
    try:
        remembering: Transform = transform.with_cache()
        return remembering
    except NotImplementedError:
        return transform


def _free(key: str, taken: Mapping[str, Any]) -> str:
    name, number = key, 1
    while name in taken:
        number += 1
        name = f"{key}_{number}"
    return name


def _setting(kind: str, key: str, value: Any, is_learnable: bool, constraint: Any) -> Expression:
    if is_learnable and not isinstance(value, Expression):
        return learnable(kind, key, value, constraint)
    return as_expression(value, f"{kind}, {key}")


class Exp(Transformation):
    """``exp(x)``, entry by entry.

    Example:
        >>> from brancher.symbolic import NormalVariable
        >>> from brancher.symbolic.flows import Exp
        >>> y = Exp()(NormalVariable(0.0, 1.0, "y"))  # log-normal
        >>> y.calculate_log_probability({"y": 1.0})
        -0.9189385
    """

    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        return ExpTransform()


class Sigmoid(Transformation):
    """``1 / (1 + exp(-x))``, entry by entry."""

    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        return SigmoidTransform()


class Softmax(Transformation):
    """A vector of n - 1 entries to n probabilities: ``softmax`` of the entries and a 0 behind them.

    ``softmax`` of n entries has no density: it forgets their sum.
    """

    rank = 1

    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        return CenteredSoftmaxTransform()


class Scaling(Transformation):
    """``scale * x``, entry by entry.

    Args:
        scale: numbers > 0, a variable or expression that is never 0.
        learnable: whether numbers are learned.
    """

    def __init__(self, scale: Any = 1.0, learnable: bool = False) -> None:
        super().__init__({"scale": _setting("Scaling", "scale", scale, learnable, constraints.positive)})

    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        scale = raised(values[0], rank)
        return AffineTransform(torch.zeros_like(scale), scale)


class Bias(Transformation):
    """``x + shift``, entry by entry.

    Args:
        shift: numbers, a variable or expression.
        learnable: whether numbers are learned.
    """

    def __init__(self, shift: Any = 0.0, learnable: bool = False) -> None:
        super().__init__({"shift": _setting("Bias", "shift", shift, learnable, constraints.real)})

    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        shift = raised(values[0], rank)
        return AffineTransform(shift, torch.ones_like(shift))


class TriangularLinear(Transformation):
    """``matrix @ x`` with a lower triangular matrix whose diagonal is positive.

    Args:
        matrix: shape (D, D); None with a size.
        size: starts near the identity, and learns.
        learnable: whether a given matrix of numbers is learned.

    Raises:
        SiteError: neither or both of matrix and size are given.
    """

    rank = 1
    setting_ranks = {"matrix": 2}

    def __init__(self, matrix: Any = None, size: int | None = None, learnable: bool = False) -> None:
        _check_size(type(self).__name__, size, [matrix])
        if size is not None:
            matrix = torch.eye(size) + (_FIRST_SPREAD * torch.randn(size, size)).tril(-1)
        is_learnable = learnable or size is not None
        constraint = constraints.lower_cholesky
        super().__init__({"matrix": _setting("TriangularLinear", "matrix", matrix, is_learnable, constraint)})

    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        matrix = values[0].tensor.tril()
        return LowerCholeskyAffine(torch.zeros_like(matrix[..., 0]), matrix)


class PlanarFlow(Transformation):
    """``x + u tanh(w . x + b)``; see :class:`~brancher.distributions.flow_transforms.PlanarTransform`.

    Args:
        weight: ``w``, shape (D,); None with a size.
        direction: ``u``, shape (D,); None with a size.
        bias: ``b``.
        size: starts near the identity, and learns.
        learnable: whether what is given as numbers is learned.

    Raises:
        SiteError: weight and direction are given with a size, or are missing without.
    """

    rank = 1
    setting_ranks = {"weight": 1, "direction": 1, "bias": 0}

    def __init__(
        self,
        weight: Any = None,
        direction: Any = None,
        bias: Any = 0.0,
        size: int | None = None,
        learnable: bool = False,
    ) -> None:
        _check_size(type(self).__name__, size, [weight, direction])
        if size is not None:
            weight, direction = torch.randn(size), _FIRST_SPREAD * torch.randn(size)
        given = {"weight": weight, "direction": direction, "bias": bias}
        is_learnable = learnable or size is not None
        real = constraints.real
        super().__init__({k: _setting("PlanarFlow", k, v, is_learnable, real) for k, v in given.items()})

    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        weight, direction, bias = (value.tensor for value in values)
        return PlanarTransform(weight, direction, bias)


def _check_size(kind: str, size: int | None, given: Sequence[Any]) -> None:
    if size is None and any(each is None for each in given):
        raise SiteError(f"{kind}: expected its settings, or a size to start from, got neither")
    if size is not None and any(each is not None for each in given):
        raise SiteError(
            f"{kind}: expected its settings, or a size to start from, got both; entries of a triangle "
            "become one by BF.triangular_form(entries)"
        )


class Flow(Transformation):
    """Any transform of ``brancher.distributions.transforms``; the parameters of its networks are learned.

    Args:
        transform: a bijection, such as ``transforms.spline_coupling(2)``.

    Raises:
        SiteTypeError: it is no transform.

    Example:
        >>> from brancher.distributions import transforms
        >>> from brancher.symbolic import NormalVariable
        >>> from brancher.symbolic.flows import Flow
        >>> z = Flow(transforms.spline(2))(NormalVariable([0.0, 0.0], 1.0, "z"))
        >>> z.get_sample(3).shape
        (3, 1)
    """

    def __init__(self, transform: Transform) -> None:
        if not isinstance(transform, Transform):
            raise SiteTypeError(f"Flow: expected a transform, got {type(transform).__name__}")
        self.rank = transform.domain.event_dim
        super().__init__({"map": _Held(transform)})

    def transform(self, values: Sequence[Value], rank: int) -> Transform:
        transform: Transform = values[0].tensor
        return transform


class _Held(Call):
    """A transform as a value; one with parameters shows them as networks do."""

    def __init__(self, transform: Transform) -> None:
        super().__init__(type(transform).__name__.lower(), transform, (), {})

    def evaluate_by(self, fn: Any, values: Sequence[Value]) -> Value:
        return Value(fn, 0)
