"""A model and its posterior, made ready to run together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from brancher.errors import GuideError, nearest
from brancher.params import ParamStore
from brancher.symbolic.data import DeterministicVariable, EmpiricalVariable
from brancher.symbolic.expressions import Expression
from brancher.symbolic.inputs import Input
from brancher.symbolic.parameters import Names
from brancher.symbolic.program import Program
from brancher.symbolic.rows import PlateNames
from brancher.symbolic.structured import twin_of
from brancher.symbolic.variables import RandomVariable, Variable

if TYPE_CHECKING:
    from brancher.infer import SVI
    from brancher.symbolic.models import ProbabilisticModel


class Pair:
    """The model with its data, and the posterior, as two programs that fit together.

    Only random variables are matched, by name. A deterministic variable of the posterior that has a
    latent variable's name is a point law. Rows of a data set, or an observed root, that have a random
    variable's name are its data. Variables that tell nothing about the data are left out. A silent
    variable of the posterior that matches nothing is mixed over: the bound is the mean of those given it.

    Args:
        model: the model.
        posterior: a model; or a guide, taken as it is.

    Attributes:
        model: the program of the model with its data.
        guide: the program of the posterior.
        predictive: the program of the model without data.
        data: what is observed, by variable of the model.
        runs: what has fitted the two so far, by what the steps depend on; it knows their compiled graphs.
        latents: names of the latent variables.
        store: where parameters are shown while the two run.
    """

    def __init__(self, model: ProbabilisticModel, posterior: ProbabilisticModel | Callable[..., Any]) -> None:
        self.owner, self.posterior = model, posterior
        self.store = ParamStore()
        self._names = names = Names()
        self.runs: dict[Any, SVI] = {}
        self._plates = plates = PlateNames()
        if not hasattr(posterior, "_listed"):
            self.data: dict[Variable, Any] = {v: v.data for v in model.random_variables if v.data is not None}
            self.model = Program(self._needed(model, {}, set()), names=names, plates=plates)
            self.guide: Any = posterior
            self.predictive = Program(model._listed, data={}, names=names, plates=plates)
        else:
            self._pair_up(model, posterior, names, plates)
        self.latents = {
            v.name
            for v in self.model.variables
            if isinstance(v, RandomVariable) and self.model.data_of(v) is None
        }
        self.nesting = max(self.model.nesting, getattr(self.guide, "nesting", 0))

    def _pair_up(self, model: Any, posterior: Any, names: Names, plates: PlateNames) -> None:
        own = {v.name: v for v in model.random_variables}
        first = Program(posterior._listed, is_posterior=True)
        data: dict[Variable, Any] = {v: v.data for v in own.values() if v.data is not None}
        points = []
        for variable in first.variables:
            match = own.get(variable.name)
            if match is None or match is variable:
                continue
            if _is_data(variable):
                data[match] = variable
            elif isinstance(variable, DeterministicVariable) and match not in data:
                points.append(variable.name)
        self.data = data
        drawn = {v.name for v in first.variables if isinstance(v, RandomVariable)} | set(points)
        # The model names what is learned first, so that what both have bears the model's name.
        probe = Program(self._needed(model, data, drawn), data=data, names=names, plates=plates)
        self._roots = [*posterior._listed, *_unseen(model, data, drawn, first)]
        self._points, self._hidden = points, [v for v in data.values() if isinstance(v, Variable)]
        self._vectors = _differing(probe, first)
        self.guide = self._posterior_program(probe, plates, {})
        rows = {name: row for name, row in self.guide.rows.items() if name in own}
        self.model = Program(
            self._needed(model, data, drawn), data=data, names=names, plates=plates, rows=rows
        )
        self.predictive = Program(model._listed, data={}, names=names, plates=plates, rows=rows)

    def _posterior_program(self, model: Program, plates: PlateNames, inputs: Mapping[str, Input]) -> Program:
        """The program of the posterior, its variables with the data points that they have in the model."""
        return Program(
            self._roots,
            names=self._names,
            plates=plates,
            points=self._points,
            hidden=self._hidden,
            is_posterior=True,
            rows=model.rows,
            inputs=inputs,
            vectors=self._vectors,
        )

    def at(self, inputs: Mapping[str, Input], keeps_data: bool = False) -> tuple[Any, Program]:
        """Posterior and predictive program with values given to variables without a law.

        Args:
            inputs: by name; those of rows that stand for data in the posterior count too.
            keeps_data: whether observed variables keep their data, in place of new values.
        """
        data = self.data if keeps_data else {}
        if not inputs:
            return self.guide, self._kept() if keeps_data else self.predictive
        plates, rows, guide = PlateNames(), {}, self.guide
        if isinstance(guide, Program):
            probe = Program(self.owner._listed, data={}, names=self._names, plates=plates, inputs=inputs)
            guide = self._posterior_program(probe, plates, inputs)
            rows = {name: row for name, row in guide.rows.items() if name in self.latents}
        predictive = Program(
            self.owner._listed, data=data, names=self._names, plates=plates, rows=rows, inputs=inputs
        )
        return guide, predictive

    def _kept(self) -> Program:
        rows = {name: row for name, row in self.model.rows.items() if name in self.latents}
        return Program(self.owner._listed, data=self.data, names=self._names, plates=self._plates, rows=rows)

    def _needed(self, model: Any, data: dict[Variable, Any], drawn: set[str]) -> list[Variable]:
        """Variables with data, those that the posterior draws; their parents come by themselves."""
        given: dict[Variable, Any] = data or {v: v.data for v in model.random_variables if v.data is not None}
        listed = [v for v in model.variables if v in given or v.name in drawn]
        return listed if given else list(model._listed)

    def _is_observed(self, variable: Variable) -> bool:
        """Whether the model's variable of a drawn variable's name has data."""
        mine = next((v for v in self.owner.random_variables if v.name == variable.name), None)
        return mine is not None and mine.is_observed and self.guide.data_of(variable) is None

    def check_names(self) -> None:
        """Refuse a posterior with a random variable that matches none of the model.

        Raises:
            GuideError: naming it and the nearest.
        """
        known = [v.name for v in self.owner.random_variables]
        for variable in self.guide.variables:
            is_random = isinstance(variable, RandomVariable)
            if is_random and self._is_observed(variable):
                raise GuideError(
                    f"posterior variable '{variable.name}': expected a latent variable of the model, got one "
                    "that has data; leave it out of the posterior"
                )
            if not is_random or variable.name in known or self.guide.data_of(variable) is not None:
                continue
            if isinstance(variable, RandomVariable) and not variable.is_silent:
                shown = known if len(known) <= 12 else [*known[:12], "..."]
                fix = "; rename it"
                if not self._points:
                    fix += f", or call {variable.name}.silence_density() to mix the others over it"
                raise GuideError(
                    f"posterior variable '{variable.name}': expected a random variable of the model {shown}, "
                    f"got none of this name{nearest(variable.name, known) or fix}"
                )


def _unseen(
    model: ProbabilisticModel, data: Mapping[Variable, Any], drawn: set[str], posterior: Program
) -> list[Expression]:
    """Variables made with ``is_observed=True`` and left without data and posterior: their own laws."""
    unseen = [
        v for v in model.random_variables if v.is_declared_observed and v not in data and v.name not in drawn
    ]
    if not unseen:
        return []
    mine = {v.name: v for v in posterior.variables}
    twins: dict[int, Expression] = {id(v): mine[v.name] for v in model.variables if v.name in mine}
    twins |= {id(v): v for v in data}
    return [twin_of(v, twins) for v in unseen]


def _differing(model: Program, posterior: Program) -> dict[str, bool]:
    """Random variables that are numbers in one program and vectors of one entry in the other.

    Returns:
        By name, whether the model has a vector.
    """
    mine, other = model.static_ranks_by_name(), posterior.static_ranks_by_name()
    names = [v.name for v in posterior.variables if isinstance(v, RandomVariable) and v.name in mine]
    if all(mine[name] == other[name] is not None for name in names):
        return {}
    wanted, got = model.shapes(), posterior.shapes()
    return {
        name: tuple(wanted[name]) == (1,)
        for name in names
        if {tuple(wanted[name]), tuple(got[name])} == {(), (1,)}
    }


def _is_data(variable: Expression) -> bool:
    if isinstance(variable, EmpiricalVariable):
        return True
    return isinstance(variable, DeterministicVariable) and variable.has_rows
