"""Named variables and all that they depend on: what a model is made of, with its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from brancher.errors import SiteError, SiteTypeError, UnknownNameError, nearest
from brancher.symbolic import edits
from brancher.symbolic.data import DeterministicVariable
from brancher.symbolic.draws import by_name
from brancher.symbolic.program import Program
from brancher.symbolic.variables import RandomVariable, Variable


class VariableCollection:
    """Variables, those they depend on, and the programs made of them.

    Parents that are not listed are part of it by themselves.

    Args:
        variables: variables, and collections whose variables become part of this one.

    Raises:
        SiteError: two variables have one name.
        SiteTypeError: something else than variables and models is given.
    """

    def __init__(
        self, variables: Iterable[Variable | VariableCollection] | Variable | VariableCollection
    ) -> None:
        self._listed: list[Variable] = _flat(variables)
        self._made: dict[Any, Any] = {}
        self.variables  # noqa: B018  two variables of one name are told at once

    def __getstate__(self) -> dict[str, Any]:
        # Programs are made again: they know their variables by identity.
        return {**self.__dict__, "_made": {}}

    @property
    def variables(self) -> list[Variable]:
        """All variables, in the order of their declaration."""
        return list(self._prior_program().variables)

    @property
    def random_variables(self) -> list[RandomVariable]:
        """The variables that have a law."""
        return [variable for variable in self.variables if isinstance(variable, RandomVariable)]

    def get_variable(self, name: str) -> Variable:
        """The variable of a name.

        Raises:
            UnknownNameError: there is none, naming the nearest.
        """
        for variable in self.variables:
            if variable.name == name:
                return variable
        known = [variable.name for variable in self.variables]
        raise UnknownNameError(
            f"model: expected one of the variables {known}, got "
            f"'{name}'{nearest(name, known) or '; check the spelling'}"
        )

    def add_variables(self, variables: Any) -> None:
        """Add variables, or the variables of a model.

        Raises:
            SiteError: two variables have one name; the model is as before then.
        """
        before = self._listed
        self._listed = [*before, *_flat(variables)]
        edits.note()
        try:
            self.variables  # noqa: B018
        except SiteError:
            self._listed = before
            edits.note()
            raise

    def observe(self, values: Any) -> None:
        """Give variables data.

        Args:
            values: data by variable or name, or a DataFrame with a column a variable, such as
                ``get_sample`` gives; its columns of computed and learned variables follow from the others.

        Raises:
            UnknownNameError: a name is no variable of the model.
        """
        is_table = hasattr(values, "columns")
        variables = {variable.name: variable for variable in self.variables}
        for name, value in by_name("observe", values, list(variables.values())).items():
            variable = variables[name]
            if isinstance(variable, DeterministicVariable):
                if variable.is_fixed or not is_table:
                    variable.observe(value)
            else:
                require_random(variable).observe(value)

    def unobserve(self, variables: Iterable[Variable | str] | None = None) -> None:
        """Forget the data of some variables, of all for None."""
        for variable in self._chosen(variables):
            variable.unobserve()

    @property
    def is_observed(self) -> bool:
        """Whether any variable has data."""
        return any(variable.is_observed for variable in self.random_variables)

    @property
    def observed_variables(self) -> list[RandomVariable]:
        """The variables that have data."""
        return [variable for variable in self.random_variables if variable.is_observed]

    def silence_density(self, variables: Iterable[Variable | str] | None = None) -> None:
        """Leave the densities of some variables, of all for None, out of every score."""
        for variable in self._chosen(variables):
            variable.silence_density()

    def _chosen(self, variables: Iterable[Variable | str] | None) -> list[RandomVariable]:
        if variables is None:
            return self.random_variables
        given = [variables] if isinstance(variables, (str, Variable)) else variables
        return [
            require_random(self.get_variable(each.name if isinstance(each, Variable) else each))
            for each in given
        ]

    # Programs, made again after every edit of a variable

    def _program(self) -> Program:
        found: Program = self._cached("own", lambda: Program(self._listed))
        return found

    def _prior_program(self) -> Program:
        found: Program = self._cached("prior", self._without_data)
        return found

    def _without_data(self) -> Program:
        try:
            return Program(self._listed, data={})
        except SiteError:
            # A posterior may look at observed variables of its model: they stand for their data there,
            # and what they depend on, which bears the posterior's names, is none of its business.
            return Program(self._listed, is_posterior=True)

    def _cached(self, key: str, make: Callable[[], Any]) -> Any:
        now = edits.latest()
        if self._made.get(key, (None,))[0] != now:
            self._made[key] = (now, make())
        return self._made[key][1]


def require_random(variable: Variable) -> RandomVariable:
    """Refuse a variable without a law.

    Raises:
        SiteTypeError: naming it.
    """
    if not isinstance(variable, RandomVariable):
        raise SiteTypeError(
            f"variable '{variable.name}': expected a random variable, got the {type(variable).__name__}; "
            "it has no law that data could say something about"
        )
    return variable


def _flat(variables: Any) -> list[Variable]:
    items = [variables] if isinstance(variables, (Variable, VariableCollection)) else variables
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise SiteTypeError(f"ProbabilisticModel: expected a list of variables, got {type(items).__name__}")
    found: list[Variable] = []
    for item in items:
        if isinstance(item, VariableCollection):
            found.extend(item._listed)
        elif isinstance(item, Variable):
            found.append(item)
        else:
            raise SiteTypeError(
                f"ProbabilisticModel: expected variables and models, got {type(item).__name__}; name it by a "
                "DeterministicVariable"
            )
    return found
