"""A model as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brancher.symbolic.parameters import Parameter
from brancher.symbolic.program import Program
from brancher.symbolic.variables import RandomVariable, Variable

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["kind", "law", "arguments", "parents", "observed", "learned"]


def summary_of(program: Program) -> pd.DataFrame:
    """One row a variable, in the order of declaration."""
    import pandas as pd

    class Summary(pd.DataFrame):
        """A table that may be called too, by those who take ``model_summary`` for a method."""

        def __call__(self) -> pd.DataFrame:
            return self

    rows = {variable.name: _row(variable, program) for variable in program.variables}
    return Summary(pd.DataFrame.from_dict(rows, orient="index", columns=_COLUMNS).rename_axis("variable"))


def _row(variable: Variable, program: Program) -> list[object]:
    is_random = isinstance(variable, RandomVariable)
    is_observed = program.data_of(variable) is not None
    arguments = {key: value for key, value in variable.arguments.items() if not isinstance(value, Parameter)}
    return [
        ("observed" if is_observed else "latent") if is_random else "fixed",
        variable.family.name if isinstance(variable, RandomVariable) else type(variable).__name__,
        ", ".join(f"{key}={value}" for key, value in arguments.items()),
        ", ".join(parents_of(variable)),
        is_observed,
        ", ".join(variable.parameters),
    ]


def parents_of(variable: Variable) -> list[str]:
    """Names of the variables that a variable's arguments are made of, in the order of declaration."""
    found: dict[int, Variable] = {}
    seen: set[int] = set()
    todo = list(variable.parents)
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Variable):
            found[node.serial] = node
        else:
            todo.extend(node.parents)
    return [found[serial].name for serial in sorted(found)]
