"""Random variables: one class a family, ``NormalVariable`` for ``Normal``, made from one table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from brancher.errors import BrancherError, SiteError, SiteTypeError
from brancher.symbolic import edits
from brancher.symbolic.batches import Value, raised
from brancher.symbolic.blends import Blend, with_bias
from brancher.symbolic.expressions import Expression, as_expression
from brancher.symbolic.families import FAMILIES, Argument, Family
from brancher.symbolic.observations import as_data
from brancher.symbolic.old_names import argument_hint, missing
from brancher.symbolic.parameters import Parameter, learnable

if TYPE_CHECKING:
    import pandas as pd


class Variable(Expression):
    """A named node of a model.

    Args:
        name: unique within a model.
        arguments: what it depends on, by argument.

    Raises:
        SiteTypeError: the name is no string.
    """

    def __init__(self, name: Any, arguments: Mapping[str, Expression]) -> None:
        self.name = check_name(type(self).__name__, name)
        self.arguments = dict(arguments)
        super().__init__(list(self.arguments.values()))

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """Learned values by argument, constrained."""
        found = {key: each for key, each in self.arguments.items() if isinstance(each, Parameter)}
        for blend in self.arguments.values():
            if isinstance(blend, Blend):
                found |= {each.argument: each for each in blend.parents if isinstance(each, Parameter)}
        return {key: parameter.value.detach().clone() for key, parameter in found.items()}

    def evaluate(self, values: Sequence[Value]) -> Value:
        raise SiteError(
            f"variable '{self.name}': expected to be part of a model, which gives it its value; write "
            f"ProbabilisticModel([{self.name}]).get_sample(1)"
        )

    def model(self) -> Any:
        """The model of this variable and everything it depends on."""
        from brancher.symbolic.models import ProbabilisticModel

        return ProbabilisticModel([self])

    def _get_sample(self, number_samples: int = 1, input_values: Any = None, seed: int | None = None) -> Any:
        """Draw tensors; see :meth:`ProbabilisticModel._get_sample`."""
        return self.model()._get_sample(number_samples, input_values, seed)

    def get_sample(
        self, number_samples: int = 1, input_values: Any = None, seed: int | None = None
    ) -> pd.DataFrame:
        """Draw this variable and what it depends on; see :meth:`ProbabilisticModel.get_sample`."""
        frame: pd.DataFrame = self.model().get_sample(number_samples, input_values, seed)
        return frame

    def calculate_log_probability(self, values: Any) -> Any:
        """Joint log-probability with what it depends on; see :class:`ProbabilisticModel`."""
        return self.model().calculate_log_probability(values)

    def get_mean(self, **options: Any) -> Any:
        """Mean of this variable: its row of :meth:`ProbabilisticModel.get_mean`."""
        return self.model().get_mean(**options).loc[self.name]

    def get_variance(self, **options: Any) -> Any:
        """Variance of this variable: its row of :meth:`ProbabilisticModel.get_variance`."""
        return self.model().get_variance(**options).loc[self.name]

    def get_entropy(self, **options: Any) -> Any:
        """Entropy given the parents, in nats: its row of :meth:`ProbabilisticModel.get_entropy`."""
        return self.model().get_entropy(**options).loc[self.name]

    def sample(self) -> torch.Tensor:
        """Sample this variable, and what it depends on, as sites of the function model that calls this."""
        from brancher.symbolic.program import Program

        found: torch.Tensor = Program([self])()[self.name]
        return found

    def describe(self) -> str:
        """The variable with its arguments, as it would be written."""
        shown = [
            f"{key}={value}" for key, value in self.arguments.items() if not isinstance(value, Parameter)
        ]
        shown += [f"{k}={_short(v)} (learned)" for k, v in self.arguments.items() if isinstance(v, Parameter)]
        return f"{type(self).__name__}({', '.join([*shown, f'name={self.name!r}'])})"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.describe()


def _short(parameter: Parameter) -> str:
    from brancher.symbolic.text import number

    return number(parameter.value.detach())


class RandomVariable(Variable):
    """A variable with a law: the base of :class:`NormalVariable` and its like.

    Args:
        *args: the family's arguments in the order of its distribution, then the name.
        name: unique within a model.
        learnable: whether arguments given as numbers are learned, starting from those.
        is_observed: whether data will come, by ``observe`` or from a posterior's variable of its name;
            without data the variable is drawn from its own law, and no posterior is asked for.
        has_bias: whether, with ``learnable``, arguments that are expressions are mixed with learned values.
        **kwargs: the family's arguments by name.

    Raises:
        SiteTypeError: an argument is missing, unknown or nothing numeric; or the name is no string.
    """

    family: ClassVar[Family]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A variable; or for a series among the arguments the series of its measurements."""
        series = [each for each in (*args, *kwargs.values()) if hasattr(each, "measured_by")]
        if not series:
            return super().__new__(cls)
        whole = series[0]

        def measure(time: Any, variable: Any) -> RandomVariable:
            own = [variable if each is whole else each for each in args]
            given = {key: variable if each is whole else each for key, each in kwargs.items()}
            made: RandomVariable = cls(*own, **given)
            return made

        return whole.measured_by(measure)

    def __init__(
        self,
        *args: Any,
        name: Any = None,
        learnable: bool = False,
        is_observed: bool = False,
        has_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        given, name, learnable = self._bound(args, name, learnable, kwargs)
        check_name(type(self).__name__, name)
        self.options = {k: v for k, v in given.items() if self._argument(k).is_option}
        arguments = {
            key: self._as_argument(name, self._argument(key), value, learnable)
            for key, value in given.items()
            if key not in self.options
        }
        if has_bias and learnable:
            arguments = {
                key: with_bias(name, key, value, self._argument(key).constraint)
                for key, value in arguments.items()
            }
        super().__init__(name, arguments)
        self.learnable, self.is_declared_observed = learnable, is_observed
        self.data: torch.Tensor | Expression | None = None
        self.is_silent = False
        self._keywords = tuple(
            (self._argument(key).keyword, self._argument(key).rank) for key in self.arguments
        )
        self._options = {self._argument(key).keyword: value for key, value in self.options.items()}

    def __setattr__(self, name: str, value: Any) -> None:
        if (family := getattr(type(self), "family", None)) and family.argument(name):
            raise SiteError(
                f"variable '{self.name}': expected '{name}' when it is made, got an assignment; make another"
            )
        super().__setattr__(name, value)

    @classmethod
    def _argument(cls, key: str) -> Argument:
        found = cls.family.argument(key)
        if found is None:
            known = [each.name for each in cls.family.arguments]
            raise SiteTypeError(
                f"{cls.__name__}: expected arguments among {known}, got '{key}'{argument_hint(key, known)}"
            )
        return found

    @classmethod
    def _bound(
        cls, args: tuple[Any, ...], name: Any, learnable: bool, kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], Any, bool]:
        """Sort out positional arguments: those of the family, then name and ``learnable``."""
        at = next((i for i, arg in enumerate(args) if isinstance(arg, str)), None)
        own, rest = (args, ()) if at is None else (args[:at], args[at:])
        names = [each.name for each in cls.family.arguments]
        if len(own) > len(names) and not rest:
            extra = own[len(names)]
            raise SiteTypeError(
                f"{cls.__name__}: expected a name as a str after {names}, got {extra!r} "
                f"({type(extra).__name__}); write name='x'"
            )
        if len(own) > len(names) or len(rest) > 2 or (rest and name is not None):
            raise SiteTypeError(
                f"{cls.__name__}: expected the arguments {names}, then name and learnable, got {len(args)} "
                "positional arguments; give them by keyword"
            )
        given = dict(zip(names, own, strict=False))
        for key, value in kwargs.items():
            argument = cls._argument(key).name
            if argument in given:
                raise SiteTypeError(f"{cls.__name__}: expected argument '{key}' once, got it twice")
            given[argument] = value
        given = {key: value for key, value in given.items() if value is not None}
        name = rest[0] if rest else name
        missing = [each.name for each in cls.family.arguments if each.is_required and each.name not in given]
        if missing:
            label = f"variable '{name}'" if isinstance(name, str) else cls.__name__
            raise SiteTypeError(f"{label}: expected arguments {names}, got none for {missing}; add them")
        return given, name, rest[1] if len(rest) > 1 else learnable

    @staticmethod
    def _as_argument(name: str, argument: Argument, value: Any, is_learnable: bool) -> Expression:
        if is_learnable and argument.is_learnable and not _has_expressions(value):
            return learnable(name, argument.name, value, argument.constraint)
        return as_expression(value, f"variable '{name}', argument '{argument.name}'")

    def law(self, values: Sequence[Value], is_vector: bool | None = None) -> tuple[Any, int]:
        """The distribution, given the values of the arguments; and the number of data dimensions of a draw.

        Args:
            values: of the arguments.
            is_vector: whether a draw of one number is a vector of one entry; None as the arguments say.

        Raises:
            SiteError: the family refuses a value, naming the variable.
        """
        free = 0
        if is_vector is not None:
            change = _as_vector if is_vector else _as_number
            values = [change(value) for value in values]
        values = [
            _as_vector(value) if own == 1 else value
            for (_, own), value in zip(self._keywords, values, strict=True)
        ]
        for (keyword, own), value in zip(self._keywords, values, strict=True):
            if value.rank < own:
                raise SiteError(
                    f"variable '{self.name}': expected argument '{keyword}' with at least {own} "
                    f"dimensions, got shape {tuple(value.shape)}"
                )
            free = max(free, value.rank - own)
        arguments = {
            keyword: value.tensor if value.rank == free + own else raised(value, free + own)
            for (keyword, own), value in zip(self._keywords, values, strict=True)
        }
        try:
            law = self.family.distribution(**arguments, **self._options)
            if free:
                law = law.to_event(free)
        except (BrancherError, ValueError, RuntimeError) as error:
            raise SiteError(f"variable '{self.name}': {error}") from error
        return law, len(law.event_shape)

    def static_rank(self, ranks: Sequence[int | None]) -> int | None:
        own = self.family.event_rank
        if own is None or None in ranks:
            return None
        if any(rank == 1 and r != 1 for (_, rank), r in zip(self._keywords, ranks, strict=True)):
            return None  # numbers and columns that stand for vectors
        free = [r - rank for (_, rank), r in zip(self._keywords, ranks, strict=True) if r is not None]
        return own + max([0, *free])

    # Data

    @property
    def is_observed(self) -> bool:
        """Whether the variable has data."""
        return self.data is not None

    def observe(self, value: Any) -> None:
        """Give the variable data.

        Args:
            value: a number, list, array, tensor, Series or DataFrame. The first dimension counts data
                points, unless the data have the shape of a single value. An expression, such as an
                :class:`EmpiricalVariable`, gives data at every run.

        Raises:
            SiteTypeError: the data are nothing numeric.
        """
        if value is None:
            raise SiteTypeError(
                f"variable '{self.name}': expected data, got None; use unobserve() to forget data"
            )
        self.data = as_data(self.name, value)
        edits.note()

    def unobserve(self) -> None:
        """Forget the data."""
        self.data = None
        edits.note()

    def silence_density(self) -> None:
        """Leave the variable's density out of every score; its draws stay."""
        self.is_silent = True
        edits.note()

    def _repr_latex_(self) -> str:
        from brancher.symbolic.text import latex, latex_name

        given = ", ".join(latex(value) for value in self.arguments.values())
        law = r"\mathcal{N}" if self.family.name == "Normal" else f"\\mathrm{{{self.family.name}}}"
        return f"${latex_name(self.name)} \\sim {law}\\left({given}\\right)$"


def _as_vector(value: Value) -> Value:
    """Where a vector is expected, a number stands for all entries of one, and a column is one."""
    if value.rank == 0:
        return Value(value.tensor.unsqueeze(-1), 1)
    if value.rank > 1 and value.tensor.shape[-1] == 1:
        return Value(value.tensor.squeeze(-1), value.rank - 1)
    return value


def _as_number(value: Value) -> Value:
    """A vector of one entry as a number."""
    return Value(value.tensor.squeeze(-1), 0) if value.shape == (1,) else value


def check_name(owner: str, name: Any) -> str:
    """Refuse a name that is no string or is empty.

    Raises:
        SiteTypeError: naming the class.
    """
    if not isinstance(name, str):
        got = "none" if name is None else f"{name!r} of type {type(name).__name__}"
        raise SiteTypeError(f"{owner}: expected a name as a str, got {got}; write {owner}(..., name='x')")
    if not name:
        raise SiteTypeError(f"{owner}: expected a non-empty name, got ''; write {owner}(..., name='x')")
    return name


def _has_expressions(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_expressions, value))
    return isinstance(value, Expression)


def _variable_class(family: Family) -> type[RandomVariable]:
    names = ", ".join(each.name for each in family.arguments)
    first = (inspect.getdoc(family.distribution) or "").split("\n")[0].rstrip(".")
    text = f"""A variable with the law {family.name}.

    {first}.

    Args:
        *args: {names}; then the name.
        name: unique within a model.
        learnable: whether arguments given as numbers are learned.
        **kwargs: {names}, by name.
    """
    members = {"family": family, "__doc__": text, "__module__": __name__}
    made: type[RandomVariable] = type(f"{family.name}Variable", (RandomVariable,), members)
    plain = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if each.is_required else None,
        )
        for each in family.arguments
    ]
    more = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default)
        for key, default in (("name", None), ("learnable", False))
    ]
    made.__signature__ = inspect.Signature([*plain, *more])  # type: ignore[attr-defined]
    return made


#: Classes of variables by name.
VARIABLES: dict[str, type[RandomVariable]] = {
    f"{name}Variable": _variable_class(family) for name, family in FAMILIES.items()
}
globals().update(VARIABLES)


def __getattr__(name: str) -> Any:
    raise missing(__name__, name, [*VARIABLES, "RandomVariable"])
