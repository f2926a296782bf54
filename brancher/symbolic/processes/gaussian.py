"""Gaussian processes: random functions whose values at any inputs are jointly normal.

Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", chapter 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from brancher.errors import InferenceError, SiteError, SiteTypeError
from brancher.symbolic.batches import Value
from brancher.symbolic.calls import DataFunction
from brancher.symbolic.data import DeterministicVariable
from brancher.symbolic.expressions import Constant, Expression, as_expression
from brancher.symbolic.graph import closure
from brancher.symbolic.processes.bands import mixture_band
from brancher.symbolic.processes.covariances import Covariance
from brancher.symbolic.processes.means import as_mean
from brancher.symbolic.special import concatenated
from brancher.symbolic.variables import VARIABLES, RandomVariable, Variable, check_name

if TYPE_CHECKING:
    import pandas as pd

    from brancher.symbolic.models import ProbabilisticModel

#: Part of the variance that is added to the diagonal, so that rounding leaves matrices positive definite.
_JITTER = {torch.float64: 1e-10}
_SINGLE_JITTER = 1e-5
#: Matrix entries that prediction holds at a time.
_MOST_ENTRIES = 2**24

_MultivariateNormal: Any = VARIABLES["MultivariateNormalVariable"]


class ProcessVariable(_MultivariateNormal):  # type: ignore[misc]
    """Values of a Gaussian process at inputs: a multivariate normal variable.

    Made by calling the process.

    Attributes:
        process: whose values they are.
        inputs: where, as an expression.
    """

    process: GaussianProcess
    inputs: Expression


Values = ProcessVariable | Sequence[ProcessVariable]


class _Joint(NamedTuple):
    """Mean and covariance of values at inputs."""

    mean: Expression
    covariance: Expression


class GaussianProcess:
    """A random function.

    Called with inputs it gives a random variable, its values there. Two variables of one process belong
    in one model only if one is made ``given`` the other; else they are values of independent functions.

    Args:
        mean: a number, variable, mean function, or function of inputs.
        covariance: a covariance function.
        name: of the process; that of its values, with the inputs' in brackets.
        jitter: part of the variance added to the diagonal, so that rounding leaves matrices positive
            definite; 1e-10 in double precision and 1e-5 in single for None.

    Raises:
        SiteTypeError: mean, covariance or name are something else.

    Example:
        >>> from brancher.symbolic.processes import GaussianProcess, SquaredExponentialCovariance
        >>> f = GaussianProcess(0.0, SquaredExponentialCovariance(scale=1.0), "f")
        >>> y = f([0.0, 1.0, 2.0])
        >>> y.observe([0.0, 1.0, 0.0])
        >>> f.predict([0.5, 1.0], given=y)["mean"].round(2).tolist()
        [0.68, 1.0]
    """

    def __init__(
        self, mean: Any, covariance: Covariance, name: Any = None, jitter: float | None = None
    ) -> None:
        self.name = check_name(type(self).__name__, name)
        if not isinstance(covariance, Covariance):
            raise SiteTypeError(
                f"Gaussian process '{name}': expected a covariance function, got "
                f"{type(covariance).__name__}; see brancher.symbolic.processes"
            )
        self.mean, self.covariance, self.jitter = as_mean(mean), covariance, jitter

    def __call__(self, x: Any, name: str | None = None, given: Values | None = None) -> ProcessVariable:
        """Values at inputs, as a random variable.

        Args:
            x: inputs of shape (N,) or (N, D): an array, variable or expression.
            name: of the variable; ``f(x)`` for a process ``f`` and a variable ``x``, else ``f``.
            given: variables of this process, on whose values it depends.
        """
        inputs = as_expression(x, f"Gaussian process '{self.name}', inputs")
        sources = self._sources(given)
        law = self._law(inputs, sources, list(sources), with_noise=True)
        return self._variable(name or self._name_at(inputs), inputs, law)

    def posterior(
        self, x: Any, given: Values, name: str | None = None, with_noise: bool = False
    ) -> ProcessVariable:
        """Values at new inputs given the data of others, as a random variable.

        In a model with random settings it is drawn along with them: add it, and look at
        ``get_posterior_sample``.

        Args:
            x: new inputs.
            given: variables of this process that have data.
            name: of the variable; ``f*`` for a process ``f``.
            with_noise: whether the values have white noise, as new measurements do.

        Raises:
            SiteError: a given variable has no data.
        """
        inputs = as_expression(x, f"Gaussian process '{self.name}', inputs")
        law = self._law(inputs, *self._data(given), with_noise)
        return self._variable(name or f"{self.name}*", inputs, law)

    def predict(
        self,
        x: Any,
        given: Values,
        model: ProbabilisticModel | None = None,
        prob: float = 0.9,
        with_noise: bool = False,
        number_samples: int = 200,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Mean and band of the values at new inputs, given data.

        Exact where the settings of the process are fixed or learned. Where they are random, a mixture over
        draws from the model's posterior.

        Args:
            x: new inputs.
            given: variables of this process that have data.
            model: has the posterior of random settings.
            prob: how much the band holds, within (0, 1).
            with_noise: whether to predict new measurements, with white noise, or the function itself.
            number_samples: draws of random settings.
            seed: of these draws.

        Returns:
            One row an input: ``mean``, ``sd`` and the ends of the band, such as ``5%`` and ``95%``.

        Raises:
            SiteError: a given variable has no data, several series of them, or NaN.
            InferenceError: settings are random, and no model with a posterior is given.
        """
        import pandas as pd

        if not 0.0 < prob < 1.0:
            raise InferenceError(f"predict: expected prob within (0, 1), got {prob!r}")
        inputs = as_expression(x, f"Gaussian process '{self.name}', inputs")
        law = self._law(inputs, *self._data(given), with_noise)
        variance = DataFunction("diagonal", _diagonal, [law.covariance])
        parts = {"mean": law.mean, "variance": variance, "inputs": inputs}
        variables = [DeterministicVariable(part, f"{self.name}*.{key}") for key, part in parts.items()]
        means, variances, at = _drawn(variables, model, number_samples, seed)
        # Inputs as they were given: a tensor may hold fewer digits.
        points = np.asarray(at[0].squeeze(-1) if isinstance(x, Expression) else x)
        if points.ndim == 1:
            index = pd.Index(points, name=getattr(inputs, "name", "x"))
        else:
            index = pd.MultiIndex.from_arrays(list(points.T))
        return mixture_band(means, variances, prob).set_index(index)

    # Inside

    def _name_at(self, inputs: Expression) -> str:
        return f"{self.name}({inputs.name})" if isinstance(inputs, Variable) else self.name

    def _variable(self, name: str, inputs: Expression, law: _Joint) -> ProcessVariable:
        covariance = DataFunction("jittered", self._jittered, [law.covariance])
        mean = DataFunction("filled", _filled, [law.mean, law.covariance])
        variable = ProcessVariable(mean, covariance_matrix=covariance, name=name)
        variable.process, variable.inputs = self, inputs
        return variable

    def _jittered(self, covariance: Value) -> Value:
        matrix = covariance.tensor
        jitter = self.jitter if self.jitter is not None else _JITTER.get(matrix.dtype, _SINGLE_JITTER)
        size = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        return Value(
            matrix + jitter * size * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device), 2
        )

    def _sources(self, given: Values | None) -> list[ProcessVariable]:
        sources = [given] if isinstance(given, Variable) else list(given or ())
        for source in sources:
            if not isinstance(source, ProcessVariable) or source.process is not self:
                raise SiteTypeError(
                    f"Gaussian process '{self.name}': expected given as variables of this process, "
                    f"got {source!r}"
                )
        return sources

    def _data(self, given: Values) -> tuple[list[ProcessVariable], list[Expression]]:
        sources = self._sources(given)
        values = []
        for source in sources:
            data = source.data
            if data is None:
                raise SiteError(
                    f"variable '{source.name}': expected data to predict from, got none; observe it"
                )
            if isinstance(data, torch.Tensor) and data.dim() > 1:
                if data.shape[0] != 1:
                    raise SiteError(
                        f"variable '{source.name}': expected one series of data to predict from, got shape "
                        f"{list(data.shape)}"
                    )
                data = data[0]
            if isinstance(data, torch.Tensor) and bool(torch.isnan(data).any()):
                raise SiteError(
                    f"variable '{source.name}': expected data without NaN to predict from, got "
                    f"{int(torch.isnan(data).sum())} NaN; leave their inputs out"
                )
            values.append(as_expression(data))
        return sources, values

    def _law(
        self,
        x: Expression,
        sources: Sequence[ProcessVariable],
        values: Sequence[Expression],
        with_noise: bool,
    ) -> _Joint:
        """Law of the values at ``x``, given values of the sources (eqs. 2.23 and 2.24)."""
        mean, covariance = self.mean(x), self.covariance.between(x, x, with_noise)
        if not sources:
            return _Joint(mean, covariance)
        inputs = [source.inputs for source in sources]
        known = inputs[0] if len(inputs) == 1 else concatenated(inputs)
        value = values[0] if len(values) == 1 else concatenated(values)
        parts = [
            mean,
            covariance,
            self.mean(known),
            self.covariance.between(known, known, True),
            self.covariance.between(known, x, False),
            value,
        ]
        both = DataFunction("conditional", self._conditional, parts)
        return _Joint(both[0], both[1])

    def _conditional(
        self, mean: Value, covariance: Value, known_mean: Value, known: Value, cross: Value, value: Value
    ) -> Value:
        try:
            tril = torch.linalg.cholesky(self._jittered(known).tensor)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            raise SiteError(
                f"Gaussian process '{self.name}': expected a positive definite covariance of the given "
                f"values, got one that is not ({error}); add a WhiteNoiseCovariance, or raise jitter"
            ) from error
        weights = torch.linalg.solve_triangular(tril, cross.tensor, upper=False)
        distance = (value.tensor - _vector(known_mean)).unsqueeze(-1)
        shift = (weights.mT @ torch.linalg.solve_triangular(tril, distance, upper=False)).squeeze(-1)
        reduced = covariance.tensor - weights.mT @ weights
        return Value((Value(_vector(mean) + shift, 1), Value(reduced, 2)), 0)


def _vector(value: Value) -> torch.Tensor:
    tensor: torch.Tensor = value.tensor
    if value.rank == 2 and tensor.shape[-1] == 1:
        return tensor.squeeze(-1)
    return tensor if value.rank else tensor.unsqueeze(-1)


def _filled(mean: Value, covariance: Value) -> Value:
    """The mean with an entry for every input."""
    vector = _vector(mean)
    return Value(vector.expand(*vector.shape[:-1], covariance.tensor.shape[-1]), 1)


def _diagonal(covariance: Value) -> Value:
    return Value(covariance.tensor.diagonal(dim1=-2, dim2=-1).clamp(min=0.0), 1)


def _drawn(
    variables: Sequence[Variable], model: ProbabilisticModel | None, count: int, seed: int | None
) -> list[torch.Tensor]:
    """Values of deterministic variables under the posterior of what they depend on."""
    from brancher.symbolic.models import ProbabilisticModel

    nodes = closure(variables, lambda node: node.parents)
    random = [node.name for node in nodes if isinstance(node, RandomVariable)]
    if not random:
        draws = ProbabilisticModel(variables)._get_sample(1)
        return [draws[variable][:, 0] for variable in variables]
    if model is None or not model.has_posterior:
        raise InferenceError(
            f"predict: expected a model with a posterior of the random variables {random}, got "
            f"{'none' if model is None else 'one without'}; run inference.perform_inference and give model="
        )
    extended = ProbabilisticModel([model, *variables])
    extended.posterior_model, extended._posterior = model.posterior_model, model._posterior
    largest = max(node.value.tensor.numel() for node in nodes if isinstance(node, Constant))
    at_once = max(1, min(count, _MOST_ENTRIES // largest**2))
    found: list[list[torch.Tensor]] = [[] for _ in variables]
    with model._seeded(seed):
        for first in range(0, count, at_once):
            draws = extended._get_posterior_sample(min(at_once, count - first))
            for values, variable in zip(found, variables, strict=True):
                values.append(draws[variable][:, 0])
    return [torch.cat(values) for values in found]
