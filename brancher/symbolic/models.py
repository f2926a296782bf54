"""``ProbabilisticModel``: variables and what they depend on, as one thing to sample, score and fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from brancher.errors import InferenceError
from brancher.handlers import seed as seeded
from brancher.params import ParamStore, using
from brancher.symbolic import edits, tables
from brancher.symbolic.collection import VariableCollection
from brancher.symbolic.draws import Draws, by_name, frame_of, raw
from brancher.symbolic.moments import moments
from brancher.symbolic.pairs import Pair
from brancher.symbolic.parameters import Parameter
from brancher.symbolic.parts import owner_of
from brancher.symbolic.program import Program
from brancher.symbolic.sampling import draw, inputs_of
from brancher.symbolic.scoring import as_values, log_probabilities
from brancher.symbolic.variables import Variable

if TYPE_CHECKING:
    import pandas as pd

    from brancher.render import ModelGraph

Values: TypeAlias = Mapping[Any, Any]


class ProbabilisticModel(VariableCollection):
    """A model of random variables.

    Parents that are not listed are part of it by themselves.

    Args:
        variables: variables, and models whose variables become part of this one.

    Raises:
        SiteError: two variables have one name.
        SiteTypeError: something else than variables and models is given.

    Attributes:
        diagnostics: what inference noted, such as ``"loss curve"``, a Series.
        posterior_model: the model of the posterior, None before one is set.

    Example:
        >>> from brancher.symbolic import BF, NormalVariable, ProbabilisticModel
        >>> a = NormalVariable(loc=0.0, scale=1.0, name="a")
        >>> b = NormalVariable(loc=a**2, scale=BF.exp(a), name="b")
        >>> ProbabilisticModel([b]).get_sample(3).shape
        (3, 2)
    """

    def to_function(self) -> Program:
        """The plain model: a function without arguments that calls ``sample``, ``param`` and ``plate``.

        It observes the data that the variables have now, and works with every handler, guide and
        inference algorithm.
        """
        return Program(self._listed)

    def __call__(self) -> dict[str, torch.Tensor]:
        """Run the model once, as the function that it is; values by name."""
        values: dict[str, torch.Tensor] = self._program()()
        return values

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Learned values of variables by name, such as ``b.loc``, constrained."""
        nodes = [node for node in self._program().nodes if isinstance(node, Parameter)]
        return {node.label: node.value.detach().clone() for node in nodes}

    def __init__(
        self, variables: Iterable[Variable | VariableCollection] | Variable | VariableCollection
    ) -> None:
        super().__init__(variables)
        self.posterior_model: ProbabilisticModel | None = None
        self.diagnostics: dict[str, Any] = {}
        self._posterior: Callable[..., Any] | None = None
        self._store = ParamStore()

    # Prior

    def get_sample(
        self, number_samples: int = 1, input_values: Values | None = None, seed: int | None = None
    ) -> pd.DataFrame:
        """Draw from the model; observed variables are drawn too.

        Args:
            number_samples: how many draws, > 0.
            input_values: fixed values by variable or name: one, or one for every draw. Regressors may
                be given at any number of new data points.
            seed: of the random numbers; None goes on with torch's.

        Returns:
            One row a draw, one column a variable in the order of declaration; a cell holds a number, or an
            array for what is no scalar.
        """
        with self._seeded(seed):
            return frame_of(self._drawn(self._prior_program(), number_samples, input_values)[0])

    def _get_sample(
        self, number_samples: int = 1, input_values: Values | None = None, seed: int | None = None
    ) -> Draws:
        """Draw tensors (samples, datapoints, *data), scalars with a trailing 1, by variable and name."""
        with self._seeded(seed):
            return self._as_draws(*self._drawn(self._prior_program(), number_samples, input_values))

    def calculate_log_probability(self, values: Any = None) -> Any:
        """Joint log-probability in nats, with the data of observed variables.

        Args:
            values: by variable or name, or a DataFrame with one row a set of values. Values with one more
                dimension on the left are several.

        Returns:
            A number; a tensor with an entry for every value; for a DataFrame a Series with its index.

        Raises:
            SiteError: a latent variable has no value, or one of another shape.
        """
        program = self._program()
        given = {} if values is None else by_name("calculate_log_probability", values, program.variables)
        with using(self._store):
            found, count = log_probabilities(program, given)
        if hasattr(values, "columns"):
            import pandas as pd

            return pd.Series(found.expand(len(values)).numpy(), index=values.index, name="log_probability")
        return found if count is not None else float(found)

    def get_mean(self, number_samples: int = 10_000, seed: int | None = None) -> pd.DataFrame:
        """Mean of every variable before data.

        Args:
            number_samples: draws for variables whose mean has no closed form.
            seed: of these draws.

        Returns:
            One row a variable: ``value``, ``standard_error`` (0 where exact), and ``method``.
        """
        return self._moments("mean", number_samples, seed)

    def get_variance(self, number_samples: int = 10_000, seed: int | None = None) -> pd.DataFrame:
        """Variance of every variable before data; see :meth:`get_mean`."""
        return self._moments("variance", number_samples, seed)

    def get_entropy(self, number_samples: int = 10_000, seed: int | None = None) -> pd.DataFrame:
        """Expected entropy of every variable given its parents, in nats; their sum is that of the model.

        See :meth:`get_mean`.
        """
        return self._moments("entropy", number_samples, seed)

    # Posterior

    def set_posterior_model(self, model: Any) -> None:
        """Say what approximates the posterior.

        Args:
            model: a model or variables whose names are those of latent variables of this model; or a guide,
                a function model or one of ``infer.autoguide``.

        Raises:
            GuideError: a random variable of it matches no latent variable, naming it.
        """
        if model is not None and (model is self.posterior_model or model is self._posterior):
            return
        if callable(model) and not isinstance(model, ProbabilisticModel):
            self.posterior_model, self._posterior = None, model
        else:
            posterior = model if isinstance(model, ProbabilisticModel) else ProbabilisticModel(model)
            Pair(self, posterior).check_names()
            self.posterior_model, self._posterior = posterior, None
        edits.note()

    @property
    def guide(self) -> Callable[..., Any] | None:
        """The posterior as a function, None before there is one."""
        return self._pair().guide if self.has_posterior else None

    @property
    def has_posterior(self) -> bool:
        """Whether a posterior is set or was made by inference."""
        return self.posterior_model is not None or self._posterior is not None

    def get_posterior_sample(
        self, number_samples: int = 1, input_values: Values | None = None, seed: int | None = None
    ) -> pd.DataFrame:
        """Draw latent variables from the posterior, and all others given these.

        Args:
            number_samples: how many draws, > 0.
            input_values: fixed values by variable or name.
            seed: of the random numbers.

        Returns:
            A table as of :meth:`get_sample`. Observed variables are predicted: drawn given the posterior.

        Raises:
            InferenceError: there is no posterior.
        """
        with self._seeded(seed):
            return frame_of(self._posterior_draws(number_samples, input_values)[0])

    def _get_posterior_sample(
        self, number_samples: int = 1, input_values: Values | None = None, seed: int | None = None
    ) -> Draws:
        """Draw from the posterior: tensors as of :meth:`_get_sample`."""
        with self._seeded(seed):
            return self._as_draws(*self._posterior_draws(number_samples, input_values))

    def get_posterior_mean(self, number_samples: int = 10_000, seed: int | None = None) -> pd.Series:
        """Mean of every latent variable under the posterior, from draws."""
        return self._posterior_statistic(torch.mean, number_samples, seed)

    def get_posterior_variance(self, number_samples: int = 10_000, seed: int | None = None) -> pd.Series:
        """Variance of every latent variable under the posterior, from draws."""
        return self._posterior_statistic(torch.var, number_samples, seed)

    def estimate_log_model_evidence(
        self, number_samples: int = 1000, method: str = "ELBO", seed: int | None = None, **options: Any
    ) -> float:
        """Estimate the log-probability of the data, in nats.

        Args:
            number_samples: draws of the posterior.
            method: ``"ELBO"``, a lower bound; ``"IS"``, importance sampling; ``"PSIS"``, the same with
                smoothed weights; ``"SMC"``, tempered from the posterior to the model.
            seed: of the random numbers.
            **options: of the method.

        Raises:
            InferenceError: there is no posterior, or no such method.
        """
        from brancher.symbolic.evidence import estimate

        with self._seeded(seed):
            return estimate(self._pair(), method, number_samples, **options)

    def get_importance_weights(self, number_samples: int = 1000, seed: int | None = None) -> pd.DataFrame:
        """Draws of the posterior with normalised importance weights, in the column ``weight``.

        Raises:
            InferenceError: there is no posterior.
        """
        from brancher.symbolic.evidence import weighted_draws

        with self._seeded(seed):
            return weighted_draws(self._pair(), number_samples)

    # Showing

    @property
    def model_summary(self) -> pd.DataFrame:
        """One row a variable: its kind, law, parents, data and what is learned."""
        return tables.summary_of(self._program())

    def render(self, **options: Any) -> ModelGraph:
        """The model as a plate diagram; see :func:`brancher.render_model`."""
        from brancher.render import render_model

        with using(ParamStore()):
            return render_model(self._program(), **options)

    def _repr_html_(self) -> str:
        return str(self.model_summary.to_html())

    def __repr__(self) -> str:
        names = [variable.name for variable in self.variables]
        shown = names if len(names) <= 12 else [*names[:10], "...", names[-1]]
        return f"{type(self).__name__}({', '.join(shown)})"

    # Inside

    def _pair(self) -> Pair:
        posterior = self.posterior_model or self._posterior
        if posterior is None:
            raise InferenceError(
                "model: expected a posterior, got none; call set_posterior_model, or "
                "inference.perform_inference"
            )
        found: Pair = self._cached("pair", lambda: Pair(self, posterior))
        return found

    def _drawn(
        self, program: Program, count: int, inputs: Values | None
    ) -> tuple[dict[str, torch.Tensor], Program]:
        given = as_values(by_name("input_values", inputs or {}, program.variables))
        if fixed := inputs_of(program, given, count):
            program = Program(self._listed, data={}, inputs=fixed)
        with using(self._store):
            return draw(program, None, count, given), program

    def _posterior_draws(
        self, count: int, inputs: Values | None, keeps_data: bool = False
    ) -> tuple[dict[str, torch.Tensor], Program]:
        pair = self._pair()
        given = as_values(by_name("input_values", inputs or {}, pair.predictive.variables))
        fixed = inputs_of(pair.predictive, given, count)
        if isinstance(pair.guide, Program):
            fixed |= inputs_of(pair.guide, given, count)
        guide, predictive = pair.at(fixed, keeps_data)
        with using(pair.store):
            return draw(predictive, guide, count, given), predictive

    def _as_draws(self, values: dict[str, torch.Tensor], program: Program) -> Draws:
        shaped = {}
        for name, value in values.items():
            has_rows = owner_of(name) in program.rows
            shaped[name] = raw(value, has_rows, value.dim() - 1 - has_rows)
        return Draws(shaped)

    def _posterior_statistic(self, statistic: Callable[..., Any], count: int, seed: int | None) -> pd.Series:
        import pandas as pd

        with self._seeded(seed):
            values, _ = self._posterior_draws(count, None)
        latents = [name for name in values if name in self._pair().latents]
        found = {
            name: statistic(values[name].to(torch.get_default_dtype()), dim=0).numpy() for name in latents
        }
        return pd.Series({name: float(v) if v.ndim == 0 else v for name, v in found.items()})

    def _moments(self, kind: str, count: int, seed: int | None) -> pd.DataFrame:
        with self._seeded(seed), using(self._store):
            return moments(self._prior_program(), kind, count)

    @contextmanager
    def _seeded(self, seed: int | None) -> Any:
        with nullcontext() if seed is None else seeded(rng_seed=seed):
            yield
