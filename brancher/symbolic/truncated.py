"""Truncated models: those draws of a model that keep to a rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from brancher.errors import InferenceError, SiteError, SiteTypeError
from brancher.infer.draws import check_count
from brancher.primitives import factor
from brancher.symbolic.batches import Value
from brancher.symbolic.calls import DataFunction
from brancher.symbolic.data import DeterministicVariable
from brancher.symbolic.draws import Draws, by_name, frame_of
from brancher.symbolic.expressions import Expression
from brancher.symbolic.models import ProbabilisticModel, Values
from brancher.symbolic.sampling import draw
from brancher.symbolic.scoring import as_values, log_probabilities

if TYPE_CHECKING:
    import pandas as pd

Tensors = Mapping[str, torch.Tensor]
Rule = Expression | Callable[[Tensors], torch.Tensor]

#: Draws of the model at a time.
_AT_ONCE = 10_000


class Acceptance(NamedTuple):
    """How much of a model a rule keeps.

    Attributes:
        value: probability.
        standard_error: of its estimate.
    """

    value: float
    standard_error: float


def truncate_model(
    model: ProbabilisticModel, rule: Rule, model_statistics: Callable[[Draws], Any] | None = None
) -> TruncatedModel:
    """Keep only those draws of a model that a rule accepts.

    Args:
        model: the model.
        rule: an expression of its variables, such as ``x > y``; or a function of draws by name, tensors
            (samples, [rows], then data), that returns one truth value a sample. Of several truth values all
            must hold.
        model_statistics: what the rule is asked about, made of draws by variable or name, tensors
            (samples, datapoints, *data); the draws themselves for None.

    Raises:
        SiteTypeError: something else is given.

    Example:
        >>> from brancher.symbolic import NormalVariable, ProbabilisticModel, truncate_model
        >>> x = NormalVariable(0.0, 1.0, "x")
        >>> half = truncate_model(ProbabilisticModel([x]), x > 0)
        >>> bool((half.get_sample(100)["x"] > 0).all())
        True
        >>> round(half.get_acceptance_probability(10_000, seed=0).value, 1)
        0.5
    """
    if model_statistics is None:
        return TruncatedModel(model, rule)
    if isinstance(rule, Expression):
        raise SiteTypeError(
            f"truncate_model: expected the rule as a function of model_statistics, got the expression {rule}"
        )
    ask, program = rule, model._prior_program()

    def about_statistics(values: Tensors) -> torch.Tensor:
        return torch.as_tensor(ask(model_statistics(model._as_draws(dict(values), program))))

    return TruncatedModel(model, about_statistics)


class TruncatedModel:
    """A model given that a rule holds; see :func:`truncate_model`.

    Args:
        model: the model.
        rule: what is accepted.

    Attributes:
        model: the model without the rule.
    """

    def __init__(self, model: ProbabilisticModel, rule: Rule) -> None:
        if not isinstance(model, ProbabilisticModel):
            raise SiteTypeError(f"truncate_model: expected a ProbabilisticModel, got {type(model).__name__}")
        if not callable(rule) and not isinstance(rule, Expression):
            raise SiteTypeError(
                "truncate_model: expected a rule as an expression or a function of draws, got "
                f"{type(rule).__name__}"
            )
        self.model, self.rule = model, rule

    def get_sample(
        self,
        number_samples: int = 1,
        input_values: Values | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Draw until enough is accepted.

        Args:
            number_samples: accepted draws, > 0.
            input_values: fixed values by name.
            seed: of the random numbers.
            **options: ``max_proposals``, draws of the model after which it is given up; 1,000,000.

        Returns:
            A table as of :meth:`ProbabilisticModel.get_sample`.

        Raises:
            InferenceError: too little was accepted.
        """
        with self.model._seeded(seed):
            return frame_of(self._accepted(False, number_samples, input_values, **options)[0])

    def _get_sample(
        self,
        number_samples: int = 1,
        input_values: Values | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Draws:
        """Draw tensors (samples, datapoints, *data), scalars with a trailing 1, by variable and name."""
        with self.model._seeded(seed):
            values, program = self._accepted(False, number_samples, input_values, **options)
            return self.model._as_draws(values, program)

    def get_posterior_sample(
        self,
        number_samples: int = 1,
        input_values: Values | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Draw from the posterior of the model until enough is accepted: the truncated posterior.

        See :meth:`get_sample`.

        Raises:
            InferenceError: the model has no posterior, or too little was accepted.
        """
        with self.model._seeded(seed):
            return frame_of(self._accepted(True, number_samples, input_values, **options)[0])

    def get_acceptance_probability(self, number_samples: int = 10_000, seed: int | None = None) -> Acceptance:
        """Estimate how much of the model the rule keeps, with its standard error."""
        check_count("get_acceptance_probability", "number_samples", number_samples)
        kept = 0
        with self.model._seeded(seed):
            for first in range(0, number_samples, _AT_ONCE):
                count = min(_AT_ONCE, number_samples - first)
                kept += int(self._proposed(False, count, None)[1].sum())
        share = kept / number_samples
        return Acceptance(share, math.sqrt(share * (1 - share) / number_samples))

    def get_mean(self, number_samples: int = 10_000, seed: int | None = None) -> pd.DataFrame:
        """Mean of every variable given the rule, from draws; one row a variable with its standard error."""
        return self._statistic(lambda x: (x.mean(0), x.std(0) / len(x) ** 0.5), number_samples, seed)

    def get_variance(self, number_samples: int = 10_000, seed: int | None = None) -> pd.DataFrame:
        """Variance of every variable given the rule, from draws; see :meth:`get_mean`."""
        return self._statistic(
            lambda x: (x.var(0), (x - x.mean(0)).square().std(0) / len(x) ** 0.5), number_samples, seed
        )

    def calculate_log_probability(
        self, values: Any = None, number_samples: int = 100_000, seed: int | None = None
    ) -> Any:
        """Joint log-density given the rule, in nats: -inf where it does not hold.

        Args:
            values: as of :meth:`ProbabilisticModel.calculate_log_probability`.
            number_samples: draws that estimate the acceptance probability, which normalises; 0 leaves the
                density unnormalised.
            seed: of these draws.

        Raises:
            InferenceError: nothing was accepted.
        """
        import pandas as pd

        log_acceptance = 0.0
        if number_samples:
            share = self.get_acceptance_probability(number_samples, seed).value
            if not share:
                raise InferenceError(
                    f"truncated model: expected an accepted draw, got none of {number_samples}; ease the rule"
                )
            log_acceptance = math.log(share)
        program = self.model._program()
        given = {} if values is None else by_name("calculate_log_probability", values, program.variables)
        found, count = log_probabilities(program, given)
        observed = {v.name: v.data for v in self.model.observed_variables if v.name not in given}
        if any(isinstance(data, Expression) for data in observed.values()):
            raise SiteError(
                "truncated model: expected data as numbers, got an expression; observe its values"
            )
        whole = self._extended()._prior_program()
        at = draw(whole, None, 1 if count is None else count, as_values({**observed, **given}))
        holds = self._holds(at)
        outside = torch.full((), -math.inf)
        result = torch.where(holds if count is not None else holds[0], found - log_acceptance, outside)
        if isinstance(values, pd.DataFrame):
            return pd.Series(result.numpy(), index=values.index, name="log_probability")
        return result if count is not None else float(result)

    def to_function(self) -> Callable[[], dict[str, torch.Tensor]]:
        """The plain model, with a factor that forbids what the rule does not accept.

        It is not normalised by the acceptance probability. Its density has a jump, which gradients do not
        see: use it with importance sampling.

        Raises:
            SiteTypeError: the rule is no expression.
        """
        if not isinstance(self.rule, Expression):
            raise SiteTypeError(
                "truncated model: expected the rule as an expression of variables to make a function, got "
                f"{type(self.rule).__name__}"
            )
        program, name = self._extended().to_function(), self._name

        def truncated() -> dict[str, torch.Tensor]:
            values = program()
            factor(f"{name}_factor", torch.where(values.pop(name), 0.0, -math.inf))
            return values

        return truncated

    def __repr__(self) -> str:
        shown = self.rule if isinstance(self.rule, Expression) else getattr(self.rule, "__name__", "rule")
        return f"TruncatedModel({self.model!r}, {shown})"

    # Inside

    @property
    def _name(self) -> str:
        name, names = "accepted", {variable.name for variable in self.model.variables}
        while name in names:
            name += "_"
        return name

    def _extended(self) -> ProbabilisticModel:
        """The model with the rule as a variable."""
        model = self.model
        if not isinstance(self.rule, Expression):
            return model
        holds = DataFunction("all", _all_hold, [self.rule])
        whole = ProbabilisticModel([model, DeterministicVariable(holds, self._name)])
        known = {variable.name for variable in model.variables}
        strange = [v.name for v in whole.variables if v.name not in known and v.name != self._name]
        if strange:
            raise SiteError(f"truncate_model: expected a rule about variables of the model, got {strange}")
        whole.posterior_model, whole._posterior = model.posterior_model, model._posterior
        return whole

    def _holds(self, values: Tensors) -> torch.Tensor:
        count = len(next(iter(values.values())))
        holds = values[self._name] if isinstance(self.rule, Expression) else self.rule(values)
        if not isinstance(holds, torch.Tensor) or holds.shape[:1] != (count,):
            got = tuple(holds.shape) if isinstance(holds, torch.Tensor) else type(holds).__name__
            raise SiteError(f"truncate_model: expected the rule to return {count} truth values, got {got}")
        return holds.bool().reshape(count, -1).all(1)

    def _proposed(
        self, is_posterior: bool, count: int, inputs: Values | None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, Any]:
        model = self._extended()
        if is_posterior:
            values, program = model._posterior_draws(count, inputs)
        else:
            values, program = model._drawn(model._prior_program(), count, inputs)
        holds = self._holds(values)
        if isinstance(self.rule, Expression):
            del values[self._name]
        return values, holds, program

    def _accepted(
        self, is_posterior: bool, count: int, inputs: Values | None, max_proposals: int = 1_000_000
    ) -> tuple[dict[str, torch.Tensor], Any]:
        check_count("get_sample", "number_samples", count)
        parts: list[dict[str, torch.Tensor]] = []
        kept = proposed = 0
        while kept < count:
            if proposed >= max_proposals:
                raise InferenceError(
                    f"truncated model: expected {count} accepted draws, got {kept} of {proposed}; ease the "
                    "rule, or raise max_proposals"
                )
            share = kept / proposed if kept else 0.5
            at_once = min(_AT_ONCE, max_proposals - proposed, int(1.2 * (count - kept) / share) + 10)
            values, holds, program = self._proposed(is_posterior, at_once, inputs)
            parts.append({name: value[holds] for name, value in values.items()})
            kept, proposed = kept + int(holds.sum()), proposed + at_once
        return {name: torch.cat([part[name] for part in parts])[:count] for name in parts[0]}, program

    def _statistic(
        self,
        statistic: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        count: int,
        seed: int | None,
    ) -> pd.DataFrame:
        import pandas as pd

        with self.model._seeded(seed):
            values, _ = self._accepted(False, count, None)
        rows = {}
        for name, value in values.items():
            found, error = statistic(value.to(torch.get_default_dtype()))
            cells = [each.numpy() if each.dim() else float(each) for each in (found, error)]
            rows[name] = (*cells, f"{count} draws")
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "standard_error", "method"])
        return frame.rename_axis("variable")


def _all_hold(holds: Value) -> Value:
    truth = holds.tensor.bool()
    return Value(truth.flatten(truth.dim() - holds.rank).all(-1) if holds.rank else truth, 0)
