"""Markov processes: chains of variables made by one rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from brancher.errors import SiteError, SiteTypeError
from brancher.symbolic.blends import Blend
from brancher.symbolic.parameters import Parameter
from brancher.symbolic.processes.series import TimeSeries, check_variables
from brancher.symbolic.variables import Variable


class MarkovProcess(TimeSeries):
    """A series in which every variable depends on the ones before it, in the same way.

    The rule is asked for variables when they are needed: by data, and by the times that are drawn.

    Args:
        x0: the first variable; the first k for a process of order k.
        step: makes the variable of a time: ``lambda t, x: NormalVariable(x, 1.0, f"x{t}")``, and
            ``lambda t, before, x: ...`` at order two, in the order of time. What else the variable depends
            on becomes part of the model by itself. A name without the time gets it, as in ``x_3``.
        times: labels of the times, in order; 0, 1, ... for None. May be endless.

    Raises:
        SiteTypeError: ``x0`` is no variable, or ``step`` no function or does not give variables.

    Example:
        >>> from brancher.symbolic import BetaVariable, MarkovProcess, NormalVariable
        >>> b = BetaVariable(1.0, 1.0, "b")
        >>> x0 = NormalVariable(0.0, 1.0, "x0")
        >>> process = MarkovProcess(x0, lambda t, x: NormalVariable(b * x, 0.25, f"x{t}"))
        >>> process.get_timeseries_sample(number_samples=3, query_points=5).shape
        (5, 3)
    """

    def __init__(
        self,
        x0: Variable | Sequence[Variable],
        step: Callable[..., Variable],
        times: Iterable[Any] | None = None,
    ) -> None:
        first = check_variables(type(self).__name__, x0)
        if not callable(step):
            raise SiteTypeError(
                f"MarkovProcess: expected a function of time and the variables before, got "
                f"{type(step).__name__}"
            )
        _check_step(step, len(first))
        self.order, self.step = len(first), step
        super().__init__(first, times)

    def _next(self, time: Any) -> Variable:
        before = self._latest(self.order)
        return timed(self.step(time, *before), time, "MarkovProcess", before)


def _check_step(step: Callable[..., Variable], order: int) -> None:
    """Refuse a rule that does not take the time and as many variables as the order says."""
    try:
        shape = inspect.signature(step)
    except (TypeError, ValueError):
        return  # functions of C have no signature
    try:
        shape.bind(*[None] * (order + 1))
    except TypeError:
        wanted = ", ".join(["t", *[f"x{i}" for i in range(order)]])
        raise SiteTypeError(
            f"MarkovProcess: expected a function of the time and {order} variables before it, in the order "
            f"of time, got one of {shape}; write lambda {wanted}: ..."
        ) from None


def timed(variable: Any, time: Any, owner: str, before: Sequence[Variable]) -> Variable:
    """Give a variable that was made for a time a name that says which.

    Args:
        variable: what was made.
        time: for which time.
        owner: who asked for it.
        before: the variables that it was made from, older than it.

    Raises:
        SiteError: it was there before.
        SiteTypeError: it is no variable.
    """
    if not isinstance(variable, Variable):
        raise SiteTypeError(
            f"{owner}: expected a function that gives a variable, got {type(variable).__name__} at {time!r}; "
            "name an expression by DeterministicVariable"
        )
    if variable.serial <= max(each.serial for each in before):
        raise SiteError(
            f"{owner}: expected a new variable for every time, got '{variable.name}' again at {time!r}"
        )
    if str(time) not in variable.name:
        variable.name = f"{variable.name}_{time}"
        for argument in variable.arguments.values():
            for node in (argument, *(argument.parents if isinstance(argument, Blend) else ())):
                if isinstance(node, Parameter):
                    node.owner = variable.name
    return variable
