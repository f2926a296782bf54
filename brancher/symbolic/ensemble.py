"""Ensembles: several models of one thing, each with a weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brancher.errors import InferenceError, SiteError, SiteTypeError, UnknownNameError, nearest
from brancher.infer.draws import check_count
from brancher.symbolic.draws import Draws
from brancher.symbolic.inference import InferenceResult, perform_inference
from brancher.symbolic.models import ProbabilisticModel, Values

if TYPE_CHECKING:
    import pandas as pd


class Ensemble:
    """A mixture of models, before and after data.

    Args:
        models: at least one; a list, or by name.
        weights: of the models, relative to each other, >= 0; equal ones for None.

    Attributes:
        models: the models by name; ``model_0``, ``model_1``, ... for a list.

    Raises:
        SiteTypeError: something else than models is given.
        SiteError: there is no model, or the weights do not fit.

    Example:
        >>> from brancher.symbolic import Ensemble, NormalVariable, ProbabilisticModel
        >>> low, high = (ProbabilisticModel([NormalVariable(loc, 1.0, "x")]) for loc in (-5.0, 5.0))
        >>> ensemble = Ensemble({"low": low, "high": high}, weights=[1.0, 3.0])
        >>> draws = ensemble.get_sample(1000, seed=0)
        >>> list(draws), bool((draws["x"] > 0).mean() > 0.7)
        (['model', 'x'], True)
    """

    def __init__(
        self, models: Mapping[str, ProbabilisticModel] | Iterable[ProbabilisticModel], weights: Any = None
    ) -> None:
        if not isinstance(models, Mapping):
            models = {f"model_{i}": model for i, model in enumerate(models)}
        wrong = {
            name: type(m).__name__ for name, m in models.items() if not isinstance(m, ProbabilisticModel)
        }
        if wrong:
            raise SiteTypeError(f"ensemble: expected ProbabilisticModels, got {wrong}")
        if not models:
            raise SiteError("ensemble: expected at least one model, got none")
        self.models: dict[str, ProbabilisticModel] = dict(models)
        self._weights = self._normalised([1.0] * len(models) if weights is None else weights)

    @property
    def weights(self) -> pd.Series:
        """The weights by model, with sum 1."""
        import pandas as pd

        return pd.Series(self._weights, index=list(self.models), name="weight")

    def set_weights(self, weights: Any) -> None:
        """Give the models other weights.

        Args:
            weights: in the order of the models, or by name; >= 0.

        Raises:
            SiteError: they do not fit.
            UnknownNameError: a name is none of the models'.
        """
        self._weights = self._normalised(weights)

    def weigh_by_evidence(
        self, number_samples: int = 1000, method: str = "PSIS", seed: int | None = None
    ) -> pd.DataFrame:
        """Multiply the weights by the evidence that the data give each model: Bayesian model averaging.

        All models must observe the same data. Doing it twice counts the data twice.

        Args:
            number_samples: draws of each posterior.
            method: as of :meth:`ProbabilisticModel.estimate_log_model_evidence`.
            seed: of the random numbers.

        Returns:
            One row a model: ``prior_weight``, ``log_evidence`` in nats, ``weight``.

        Raises:
            InferenceError: a model has no posterior.
        """
        import pandas as pd

        prior = self._weights
        evidence = np.array(
            [self._of(name).estimate_log_model_evidence(number_samples, method, seed) for name in self.models]
        )
        with np.errstate(divide="ignore"):
            log_weights = np.log(prior) + evidence
        self._weights = np.exp(log_weights - log_weights.max())
        self._weights /= self._weights.sum()
        columns = {"prior_weight": prior, "log_evidence": evidence, "weight": self._weights}
        return pd.DataFrame(columns, index=pd.Index(list(self.models), name="model"))

    def perform_inference(self, number_iterations: int, **options: Any) -> dict[str, InferenceResult]:
        """Fit every model; see ``inference.perform_inference``. Results by model."""
        return {name: perform_inference(m, number_iterations, **options) for name, m in self.models.items()}

    def get_sample(
        self, number_samples: int = 1, input_values: Values | None = None, seed: int | None = None
    ) -> pd.DataFrame:
        """Draw models by their weights, and from each its variables.

        Args:
            number_samples: how many draws, > 0.
            input_values: fixed values by name, for the models that have the variable.
            seed: of the random numbers.

        Returns:
            One row a draw: the column ``model``, then one a variable of any model; missing where the model
            of the row has no such variable.
        """
        return self._mixed(
            lambda model, n, given: model.get_sample(n, given), number_samples, input_values, seed
        )

    def _get_sample(
        self, number_samples: int = 1, input_values: Values | None = None, seed: int | None = None
    ) -> Draws:
        """Draw tensors of the variables that all models have; see :meth:`ProbabilisticModel._get_sample`."""
        check_count("get_sample", "number_samples", number_samples)
        models = list(self.models.values())
        with models[0]._seeded(seed):
            chosen = torch.multinomial(torch.as_tensor(self._weights), number_samples, replacement=True)
            counts = torch.bincount(chosen, minlength=len(models)).tolist()
            parts = [
                m._get_sample(n, _known(m, input_values)) for m, n in zip(models, counts, strict=True) if n
            ]
        place = torch.argsort(torch.argsort(chosen, stable=True))
        shared = [name for name in parts[0] if all(name in part for part in parts)]
        return Draws({name: torch.cat([part[name] for part in parts])[place] for name in shared})

    def get_posterior_sample(
        self, number_samples: int = 1, input_values: Values | None = None, seed: int | None = None
    ) -> pd.DataFrame:
        """Draw models by their weights, and from the posterior of each; a table as of :meth:`get_sample`.

        Raises:
            InferenceError: a model has no posterior.
        """
        for name in self.models:
            self._of(name)
        return self._mixed(
            lambda model, n, given: model.get_posterior_sample(n, given), number_samples, input_values, seed
        )

    def get_posterior_mean(self, number_samples: int = 10_000, seed: int | None = None) -> pd.Series:
        """Mean of every latent variable that all models have, averaged over the models."""
        return self._moments(number_samples, seed)[0]

    def get_posterior_variance(self, number_samples: int = 10_000, seed: int | None = None) -> pd.Series:
        """Variance of every latent variable that all models have, within and between models."""
        return self._moments(number_samples, seed)[1]

    def calculate_log_probability(self, values: Any = None) -> Any:
        """Log of the weighted mean of the models' joint densities, in nats.

        Args:
            values: as of :meth:`ProbabilisticModel.calculate_log_probability`; all models must have the
                variables.
        """
        import pandas as pd

        each = [model.calculate_log_probability(values) for model in self.models.values()]
        stacked = torch.stack([_as_double(one) for one in each])
        weights = torch.as_tensor(self._weights).log().reshape(-1, *[1] * (stacked.dim() - 1))
        total = (stacked + weights).logsumexp(0)
        if isinstance(each[0], pd.Series):
            return pd.Series(total.numpy(), index=each[0].index, name=each[0].name)
        return total if isinstance(each[0], torch.Tensor) else float(total)

    def __len__(self) -> int:
        return len(self.models)

    def __repr__(self) -> str:
        shown = [f"{name}: {weight:.3g}" for name, weight in self.weights.items()]
        return f"Ensemble({', '.join(shown)})"

    # Inside

    def _normalised(self, weights: Any) -> np.ndarray[Any, Any]:
        if hasattr(weights, "items"):
            given = dict(weights.items())
            unknown = [key for key in given if key not in self.models]
            if unknown:
                raise UnknownNameError(
                    f"ensemble: expected weights of {list(self.models)}, got one of '{unknown[0]}'"
                    f"{nearest(str(unknown[0]), self.models) or '; check the spelling'}"
                )
            weights = [given.get(name, 0.0) for name in self.models]
        try:
            array: np.ndarray[Any, Any] = np.array(weights, dtype=float)
        except (TypeError, ValueError):
            array = np.array(math.nan)
        if array.shape != (len(self.models),) or not (array >= 0).all() or not 0 < array.sum() < math.inf:
            raise SiteError(
                f"ensemble: expected {len(self.models)} weights >= 0 with a sum > 0, got {weights!r}"
            )
        array /= array.sum()
        return array

    def _of(self, name: str) -> ProbabilisticModel:
        model = self.models[name]
        if not model.has_posterior:
            raise InferenceError(
                f"ensemble: expected a posterior of every model, got none of '{name}'; call perform_inference"
            )
        return model

    def _mixed(
        self, draw: Callable[..., pd.DataFrame], number_samples: int, inputs: Values | None, seed: int | None
    ) -> pd.DataFrame:
        import pandas as pd

        check_count("get_sample", "number_samples", number_samples)
        models = list(self.models.items())
        with models[0][1]._seeded(seed):
            chosen = torch.multinomial(torch.as_tensor(self._weights), number_samples, replacement=True)
            counts = torch.bincount(chosen, minlength=len(models)).tolist()
            frames = []
            for (name, model), count in zip(models, counts, strict=True):
                if count:
                    frame = draw(model, count, _known(model, inputs))
                    frame.insert(0, "model", name)
                    frames.append(frame)
        whole = pd.concat(frames, ignore_index=True)
        # Rows of a model stand together now; the draws come in the order in which models were chosen.
        place = torch.argsort(torch.argsort(chosen, stable=True)).numpy()
        return whole.iloc[place].reset_index(drop=True)

    def _moments(self, count: int, seed: int | None) -> tuple[pd.Series, pd.Series]:
        import pandas as pd

        means = [self._of(name).get_posterior_mean(count, seed) for name in self.models]
        variances = [model.get_posterior_variance(count, seed) for model in self.models.values()]
        shared = [key for key in means[0].index if all(key in mean.index for mean in means)]
        mean, variance = {}, {}
        for key in shared:
            mean[key] = sum(w * m[key] for w, m in zip(self._weights, means, strict=True))
            variance[key] = sum(
                w * (v[key] + (m[key] - mean[key]) ** 2)
                for w, m, v in zip(self._weights, means, variances, strict=True)
            )
        return pd.Series(mean), pd.Series(variance)


def _known(model: ProbabilisticModel, inputs: Values | None) -> Values | None:
    """The inputs that a model has variables for."""
    if inputs is None:
        return None
    names = {variable.name for variable in model.variables}
    return {k: value for k, value in inputs.items() if getattr(k, "name", k) in names}


def _as_double(log_probability: Any) -> torch.Tensor:
    if isinstance(log_probability, torch.Tensor):
        return log_probability.double()
    return torch.tensor(np.array(log_probability, dtype=float))
