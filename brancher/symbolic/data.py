"""Variables that are not random: fixed values, learned values, data sets and minibatches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributions.constraints import Constraint

from brancher.distributions import constraints
from brancher.errors import SiteError, SiteTypeError
from brancher.handlers.plate import open_frames
from brancher.symbolic import edits
from brancher.symbolic.batches import Value
from brancher.symbolic.expressions import Constant, Expression, as_expression, as_tensor
from brancher.symbolic.observations import as_data
from brancher.symbolic.parameters import Parameter
from brancher.symbolic.parameters import learnable as as_learnable
from brancher.symbolic.variables import Variable, check_name


class DeterministicVariable(Variable):
    """A named value: fixed, learned, or computed from other variables. It has no density.

    Args:
        value: a number, array or expression.
        name: unique within a model.
        learnable: whether the value is learned, starting from the given one.
        is_observed: whether the first dimension counts data points.
        variable_range: where a learned value lies, a constraint of ``brancher.distributions.constraints``;
            None for anywhere.

    Raises:
        ParamError: a learned value is not floating, or lies elsewhere.
        SiteTypeError: the value is nothing numeric, or an expression is to be learned; or the range is no
            constraint.
    """

    def __init__(
        self,
        value: Any,
        name: Any = None,
        learnable: bool = False,
        is_observed: bool = False,
        variable_range: Constraint | None = None,
    ) -> None:
        check_name(type(self).__name__, name)
        if variable_range is not None and not isinstance(variable_range, Constraint):
            raise SiteTypeError(
                f"variable '{name}': expected variable_range as a constraint, got "
                f"{type(variable_range).__name__}; write constraints.positive"
            )
        space = constraints.real if variable_range is None else variable_range
        if learnable and isinstance(value, Expression):
            raise SiteTypeError(
                f"variable '{name}': expected a number or array to learn, got the expression {value}; "
                "make the variables in it learnable"
            )
        if learnable:
            node: Expression = as_learnable(name, "value", value, space)
        else:
            node = as_expression(value, f"variable '{name}', value")
        super().__init__(name, {"value": node})
        self.learnable = learnable
        self._given: torch.Tensor | None = None
        if is_observed:
            self.observe(node.value.tensor if isinstance(node, Constant) else value)

    @property
    def value(self) -> torch.Tensor:
        """The value as it is now, constrained; of data points, those that were observed.

        Raises:
            SiteTypeError: the value is computed from other variables.
        """
        node = self.arguments["value"]
        if self._given is not None:
            return self._given
        if not isinstance(node, (Constant, Parameter)):
            raise SiteTypeError(
                f"variable '{self.name}': expected a fixed or learned value, got the expression {node}; "
                "draw it by get_sample"
            )
        return node.value.tensor if isinstance(node, Constant) else node.value.detach()

    @property
    def is_fixed(self) -> bool:
        """Whether the value is neither learned nor computed."""
        return isinstance(self.arguments["value"], Constant)

    @property
    def has_rows(self) -> bool:
        """Whether there is a value for every data point."""
        return self._given is not None

    @property
    def rows(self) -> int | None:
        """How many data points there are; None for a single value."""
        return None if self._given is None else self._given.shape[0]

    @property
    def row_value(self) -> Value:
        """The values of the data points."""
        tensor = self.value
        return Value(tensor, tensor.dim() - 1)

    @property
    def row_shape(self) -> torch.Size | None:
        """Shape of a single value; None where other variables decide."""
        if self._given is not None:
            return self._given.shape[1:]
        node = self.arguments["value"]
        return None if not isinstance(node, (Constant, Parameter)) else self.value.shape

    def observe(self, value: Any) -> None:
        """Give a value for every data point.

        Args:
            value: an array whose first dimension counts data points.

        Raises:
            SiteError: there is no such dimension, or the value is learned or computed.
        """
        if not self.is_fixed:
            raise SiteError(
                f"variable '{self.name}': expected a fixed value to observe, got {self.arguments['value']}; "
                "observe the variables that it is made of"
            )
        tensor = as_data(self.name, value)
        if not isinstance(tensor, torch.Tensor) or not tensor.dim():
            raise SiteError(
                f"variable '{self.name}': expected data as an array whose first dimension counts data "
                f"points, got {value}"
            )
        self._given = tensor
        edits.note()

    def unobserve(self) -> None:
        """Go back to the single value."""
        self._given = None
        edits.note()

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return ranks[0] if self._given is None else self._given.dim() - 1


class RootVariable(DeterministicVariable):
    """A value at the root of a model, such as regressors.

    Args:
        value: a number or array.
        name: unique within a model.
        learnable: whether it is learned.
        is_observed: whether its first dimension counts data points.
        variable_range: as of :class:`DeterministicVariable`.
    """


class RandomIndices(Variable):
    """Rows of a data set, drawn afresh at every run; what is built on them is a minibatch.

    Densities of everything downstream are scaled by ``dataset_size / batch_size``.

    Args:
        dataset_size: number of rows in all.
        batch_size: number of rows drawn, without replacement.
        name: unique within a model.
        is_observed: accepted for programs of old; the rows always count data points.

    Raises:
        SiteError: a size is impossible.
    """

    def __init__(
        self, dataset_size: int, batch_size: int, name: Any = None, is_observed: bool = True
    ) -> None:
        check_name(type(self).__name__, name)
        if not 0 < batch_size <= dataset_size:
            raise SiteError(
                f"variable '{name}': expected 0 < batch_size <= dataset_size {dataset_size}, got {batch_size}"
            )
        super().__init__(name, {})
        self.dataset_size, self.batch_size = dataset_size, batch_size

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return 0


class EmpiricalVariable(Variable):
    """Rows of a data set.

    With ``is_observed=True`` (or ``indices``) every row is a data point: a minibatch where ``batch_size``
    is smaller than the data set, whose densities are then scaled up to all rows. Else a draw of
    ``batch_size`` rows with replacement, one value of shape (batch_size, *row).

    Args:
        dataset: an array, tensor, Series, DataFrame, or a sequence of rows.
        batch_size: how many rows; all for None.
        indices: the :class:`RandomIndices` that several data sets share.
        weights: how likely rows are drawn, relative to each other.
        name: unique within a model.
        is_observed: whether rows are data points.

    Raises:
        SiteError: sizes do not fit together.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: Any = None,
        indices: RandomIndices | None = None,
        weights: Any = None,
        name: Any = None,
        is_observed: bool = False,
        learnable: bool = False,
    ) -> None:
        if isinstance(batch_size, str):  # EmpiricalVariable(data, "x")
            batch_size, name = None, batch_size
        check_name(type(self).__name__, name)
        source = dataset.value if isinstance(dataset, Constant) else dataset
        tensor = as_tensor(source, f"variable '{name}', dataset")
        if not tensor.dim():
            raise SiteError(
                f"variable '{name}': expected a data set with rows, got the single number {tensor.item()}"
            )
        count = tensor.shape[0]
        if isinstance(batch_size, RandomIndices):
            batch_size, indices = None, batch_size
        if indices is not None and indices.dataset_size != count:
            raise SiteError(
                f"variable '{name}': expected a data set of {indices.dataset_size} rows as in "
                f"'{indices.name}', "
                f"got {count}"
            )
        if batch_size is not None and (indices is not None or not 0 < batch_size <= count):
            raise SiteError(
                f"variable '{name}': expected either indices or 0 < batch_size <= {count}, got {batch_size}"
                + (" with indices" if indices is not None else "")
            )
        super().__init__(name, {} if indices is None else {"indices": indices})
        self.dataset, self.batch_size, self.indices = tensor, batch_size, indices
        self.weights = _normalised(name, weights, count)
        self.has_rows = is_observed or indices is not None
        self.row_shape = tensor.shape[1:] if self.has_rows else None

    def rows_at(self, indices: torch.Tensor | None) -> Value:
        """Rows as data points."""
        tensor = self.dataset if indices is None else self.dataset[indices]
        return Value(tensor, tensor.dim() - 1)

    def draw(self) -> Value:
        """Draw rows as one value, for each entry of the batch around."""
        count = self.dataset.shape[0]
        size = self.batch_size or count
        weights = torch.ones(count) if self.weights is None else self.weights
        frames = [frame for frame in open_frames() if frame.dim is not None]
        batch = [1] * max([-(frame.dim or 0) for frame in frames], default=0)
        for frame in frames:
            batch[frame.dim or 0] = frame.size
        rows = torch.multinomial(weights, math.prod(batch) * size, replacement=True)
        return Value(self.dataset[rows.reshape(*batch, size)], self.dataset.dim())

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        return self.dataset.dim() - self.has_rows


def _normalised(name: str, weights: Any, count: int) -> torch.Tensor | None:
    if weights is None:
        return None
    tensor = as_tensor(weights, f"variable '{name}', weights").to(torch.get_default_dtype())
    if tensor.shape != (count,) or bool((tensor < 0).any()) or not bool(tensor.sum() > 0):
        raise SiteError(
            f"variable '{name}': expected {count} weights >= 0, one a row, got shape "
            f"{tuple(tensor.shape)} with "
            f"sum {float(tensor.sum()):g}"
        )
    return tensor / tensor.sum()
