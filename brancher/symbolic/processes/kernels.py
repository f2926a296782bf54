"""Covariance functions with settings of their own.

Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", chapter 4.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch

from brancher.distributions import constraints
from brancher.errors import SiteError
from brancher.symbolic.batches import Value
from brancher.symbolic.calls import DataFunction
from brancher.symbolic.expressions import Expression, as_expression
from brancher.symbolic.parameters import Parameter, learnable
from brancher.symbolic.processes.covariances import Covariance, as_points


class Kernel(Covariance):
    """A covariance function with settings of its own.

    Args:
        settings: numbers, variables or expressions, by name.
        is_learnable: whether those given as numbers are learned.
        name: of what is learned.
        jitter: added to the variance of each measurement, so that close inputs can be told apart; >= 0.
    """

    def __init__(self, settings: dict[str, Any], is_learnable: bool, name: str | None, jitter: float) -> None:
        if jitter < 0:
            raise SiteError(f"covariance: expected jitter >= 0, got {jitter}")
        self.jitter = float(jitter)
        kind = type(self).__name__.removesuffix("Covariance")
        self.name = name or kind
        self._settings = {key: self._setting(key, value, is_learnable) for key, value in settings.items()}

    def _setting(self, key: str, value: Any, is_learnable: bool) -> Expression:
        label = f"covariance '{self.name}', {key}"
        if is_learnable and not isinstance(value, Expression):
            return learnable(self.name, key, value, constraints.positive)
        node = as_expression(value, label)
        constant = getattr(node, "value", None)
        if isinstance(constant, Value) and not bool((constant.tensor > 0).all()):
            raise SiteError(f"{label}: expected values > 0, got {value}")
        return node

    def settings(self) -> Iterator[Expression]:
        yield from self._settings.values()

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Learned settings by name, as they are now."""
        found = {key: each for key, each in self._settings.items() if isinstance(each, Parameter)}
        return {key: each.value.detach().clone() for key, each in found.items()}

    @abstractmethod
    def entries(self, difference: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        """Covariances, shape batch + (N, M).

        Args:
            difference: of the inputs, shape batch + (N, M, D).
            **settings: each of shape batch + (1, 1, 1) or batch + (1, 1, D).
        """

    def between(self, x: Expression, y: Expression, is_same: bool) -> Expression:
        names, jitters = list(self._settings), is_same and self.jitter > 0

        def fill(x: Value, y: Value, *settings: Value) -> Value:
            rows, columns = as_points(x), as_points(y)
            if rows.shape[-1] != columns.shape[-1]:
                raise SiteError(
                    f"covariance '{self.name}': expected inputs with one number of dimensions, got "
                    f"{rows.shape[-1]} and {columns.shape[-1]}"
                )
            difference = rows.unsqueeze(-2) - columns.unsqueeze(-3)
            shaped = {name: _beside(each) for name, each in zip(names, settings, strict=True)}
            entries = self.entries(difference, **shaped)
            return Value(entries + self.jitter * _identity(difference) if jitters else entries, 2)

        return DataFunction(self.name, fill, [x, y, *self._settings.values()])

    def __repr__(self) -> str:
        given = [f"{key}={_shown(value)}" for key, value in self._settings.items()]
        return f"{type(self).__name__}({', '.join(given)})"


def _shown(setting: Expression) -> str:
    from brancher.symbolic.text import number

    return number(setting.value.detach()) if isinstance(setting, Parameter) else str(setting)


def _beside(setting: Value) -> torch.Tensor:
    if setting.rank > 1:
        raise SiteError(
            f"Gaussian process: expected settings that are numbers or vectors (D,), got shape "
            f"{tuple(setting.shape)}"
        )
    tensor: torch.Tensor = setting.tensor
    return tensor[..., None, None, :] if setting.rank else tensor[..., None, None, None]


def _length(vectors: torch.Tensor) -> torch.Tensor:
    """Euclidean length over the last dimension, with slope 0 at 0."""
    square = vectors.square().sum(-1)
    is_apart = square > 0
    return torch.where(is_apart, torch.where(is_apart, square, 1.0).sqrt(), 0.0)


class SquaredExponentialCovariance(Kernel):
    """``exp(-|x - y|^2 / (2 scale^2))``: very smooth functions.

    Args:
        scale: distance over which values resemble each other, in units of the inputs; one, or one a
            dimension of the inputs; > 0.
        learnable: whether settings given as numbers are learned.
        name: of what is learned.
        jitter: added to the variance of each measurement, so that close inputs can be told apart; >= 0.

    Raises:
        SiteError: a number is not > 0.

    Example:
        >>> from brancher.symbolic.processes import SquaredExponentialCovariance, WhiteNoiseCovariance
        >>> 4.0 * SquaredExponentialCovariance(scale=1.0) + WhiteNoiseCovariance(0.1)
        4 * SquaredExponentialCovariance(scale=1) + WhiteNoiseCovariance(magnitude=0.1)
    """

    def __init__(
        self, scale: Any = 1.0, learnable: bool = False, name: str | None = None, *, jitter: float = 0.0
    ) -> None:
        super().__init__({"scale": scale}, learnable, name, jitter)

    def entries(self, difference: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        return (-0.5 * (difference / settings["scale"]).square().sum(-1)).exp()


class ExponentialCovariance(Kernel):
    """``exp(-|x - y| / scale)``: rough functions, of the Ornstein-Uhlenbeck process.

    Args:
        scale: as of :class:`SquaredExponentialCovariance`.
        learnable: whether settings given as numbers are learned.
        name: of what is learned.
        jitter: as of :class:`SquaredExponentialCovariance`.
    """

    def __init__(
        self, scale: Any = 1.0, learnable: bool = False, name: str | None = None, *, jitter: float = 0.0
    ) -> None:
        super().__init__({"scale": scale}, learnable, name, jitter)

    def entries(self, difference: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        return (-_length(difference / settings["scale"])).exp()


class MaternCovariance(Kernel):
    """Functions of a chosen smoothness, between the exponential and the squared exponential.

    With ``r = sqrt(2 smoothness) |x - y| / scale``: ``exp(-r)`` at 1/2, ``(1 + r) exp(-r)`` at 3/2,
    ``(1 + r + r^2 / 3) exp(-r)`` at 5/2.

    Args:
        scale: as of :class:`SquaredExponentialCovariance`.
        smoothness: 0.5, 1.5 or 2.5.
        learnable: whether settings given as numbers are learned.
        name: of what is learned.
        jitter: as of :class:`SquaredExponentialCovariance`.

    Raises:
        SiteError: the smoothness is another.
    """

    def __init__(
        self,
        scale: Any = 1.0,
        smoothness: float = 1.5,
        learnable: bool = False,
        name: str | None = None,
        *,
        jitter: float = 0.0,
    ) -> None:
        super().__init__({"scale": scale}, learnable, name, jitter)
        if smoothness not in (0.5, 1.5, 2.5):
            raise SiteError(
                f"covariance '{self.name}': expected smoothness as 0.5, 1.5 or 2.5, got {smoothness!r}"
            )
        self.smoothness = float(smoothness)

    def entries(self, difference: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        r = math.sqrt(2.0 * self.smoothness) * _length(difference / settings["scale"])
        if self.smoothness == 0.5:
            return (-r).exp()
        factor = 1.0 + r if self.smoothness == 1.5 else 1.0 + r + r.square() / 3.0
        return factor * (-r).exp()


class PeriodicCovariance(Kernel):
    """``exp(-2 sin^2(pi frequency |x - y|) / scale^2)``: functions that repeat themselves.

    Args:
        frequency: periods in one unit of the inputs, > 0.
        scale: how alike values within a period are, > 0; the larger, the closer to a sine.
        learnable: whether settings given as numbers are learned.
        name: of what is learned.
        jitter: as of :class:`SquaredExponentialCovariance`.
    """

    def __init__(
        self,
        frequency: Any = 1.0,
        scale: Any = 1.0,
        learnable: bool = False,
        name: str | None = None,
        *,
        jitter: float = 0.0,
    ) -> None:
        super().__init__({"frequency": frequency, "scale": scale}, learnable, name, jitter)

    def entries(self, difference: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        wave = (math.pi * settings["frequency"] * difference).sin() / settings["scale"]
        return (-2.0 * wave.square().sum(-1)).exp()


class HarmonicCovariance(Kernel):
    """``cos(2 pi frequency (x - y))``: a sine wave of unknown amplitude and phase.

    Args:
        frequency: periods in one unit of the inputs, > 0.
        learnable: whether settings given as numbers are learned.
        name: of what is learned.
        jitter: as of :class:`SquaredExponentialCovariance`.
    """

    def __init__(
        self, frequency: Any = 1.0, learnable: bool = False, name: str | None = None, *, jitter: float = 0.0
    ) -> None:
        super().__init__({"frequency": frequency}, learnable, name, jitter)

    def entries(self, difference: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        return (2.0 * math.pi * (settings["frequency"] * difference).sum(-1)).cos()


class WhiteNoiseCovariance(Kernel):
    """Independent noise of each measurement; two measurements at one input differ in it.

    Args:
        magnitude: variance of the noise, > 0.
        learnable: whether settings given as numbers are learned.
        name: of what is learned.
        jitter: as of :class:`SquaredExponentialCovariance`.
    """

    def __init__(
        self, magnitude: Any = 1.0, learnable: bool = False, name: str | None = None, *, jitter: float = 0.0
    ) -> None:
        super().__init__({"magnitude": magnitude}, learnable, name, jitter)

    def entries(self, difference: torch.Tensor, **settings: torch.Tensor) -> torch.Tensor:
        return settings["magnitude"].squeeze(-1) * _identity(difference)

    def between(self, x: Expression, y: Expression, is_same: bool) -> Expression:
        if is_same:
            return super().between(x, y, is_same)
        return DataFunction("zeros", _zeros, [x, y])


def _identity(difference: torch.Tensor) -> torch.Tensor:
    """1 for a measurement and itself, shape (N, M)."""
    rows, columns = difference.shape[-3:-1]
    return torch.eye(rows, columns, dtype=difference.dtype, device=difference.device)


def _zeros(x: Value, y: Value) -> Value:
    rows, columns = as_points(x), as_points(y)
    return Value(rows.new_zeros((rows.shape[-2], columns.shape[-2])), 2)
