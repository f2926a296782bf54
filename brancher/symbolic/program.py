"""From variables to a plain model: a function that calls ``sample``, ``param`` and ``plate``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from brancher.distributions import Delta
from brancher.errors import SiteError
from brancher.handlers import trace
from brancher.primitives import deterministic, sample
from brancher.symbolic.alone import alone
from brancher.symbolic.batches import Value
from brancher.symbolic.calls import Call
from brancher.symbolic.data import EmpiricalVariable, RandomIndices
from brancher.symbolic.expressions import Constant, Expression, Given
from brancher.symbolic.graph import check_names, closure
from brancher.symbolic.inputs import Input, Shape
from brancher.symbolic.observations import Observation, observed_value, shaped
from brancher.symbolic.parameters import Names, Parameter
from brancher.symbolic.parts import Part, entries
from brancher.symbolic.rows import PlateNames, Rows, find_rows
from brancher.symbolic.runs import Run, Step, present, value_of
from brancher.symbolic.variables import RandomVariable, Variable

Data = torch.Tensor | Expression


#: What functions raise that are given values which do not fit.
_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, KeyError)
_DRAWN = (RandomVariable, RandomIndices)


def _is_drawn_rows(node: Expression) -> bool:
    return isinstance(node, (RandomIndices, EmpiricalVariable))


class Program:
    """A function model made of variables and everything that they depend on.

    Args:
        variables: the variables.
        data: what is observed, by variable; None for the data that the variables have.
        names: of what is learned; shared by programs that are learned together.
        plates: names of plates of data points; shared in the same way.
        rows: data points of variables that have them for a reason outside this graph.
        points: names of deterministic variables that are draws of a point law.
        hidden: variables that are evaluated but are no sites.
        is_posterior: whether observed variables stand for their data alone.
        inputs: values by name of variables without a law, in place of their own.
        vectors: random variables of one number, by name: whether that is a vector of one entry.

    Raises:
        SiteError: two variables have one name, or data do not fit.

    Attributes:
        variables: all named variables, in the order of their declaration.
        rows: the data points of a variable, by name.
    """

    def __init__(
        self,
        variables: Iterable[Variable],
        *,
        data: Mapping[Variable, Data] | None = None,
        names: Names | None = None,
        plates: PlateNames | None = None,
        rows: Mapping[str, Rows] | None = None,
        points: Iterable[str] = (),
        hidden: Iterable[Variable] = (),
        is_posterior: bool = False,
        inputs: Mapping[str, Input] | None = None,
        vectors: Mapping[str, bool] | None = None,
    ) -> None:
        plates, points, hidden = plates or PlateNames(), tuple(points), tuple(hidden)
        self._roots = list(variables)
        self._remaking = {
            "data": data,
            "plates": plates,
            "rows": rows,
            "points": points,
            "hidden": hidden,
            "is_posterior": is_posterior,
            "inputs": inputs,
            "vectors": vectors,
        }
        self._inputs, self._vectors = dict(inputs or {}), dict(vectors or {})
        self._data = data
        self._is_posterior = is_posterior
        self.nodes = closure(self._roots, self._parents)
        self._unrecorded = self._stand_ins() | {id(variable) for variable in hidden}
        self.variables = [n for n in self.nodes if isinstance(n, Variable) and id(n) not in self._unrecorded]
        check_names(self.variables)
        self._points = frozenset(points)
        self._observations = self._observed()
        self.names = Names() if names is None else names
        self.names.add(self.nodes, "posterior." if is_posterior else "")
        taken = {variable.name: variable for variable in self.variables}
        self._rows = find_rows(
            self.nodes,
            self._parents,
            self._observations,
            rows or {},
            plates,
            taken,
            self._input_of,
        )
        self.rows = {v.name: self._rows[id(v)] for v in self.variables if id(v) in self._rows}
        self._compile()

    def __reduce__(self) -> tuple[Any, ...]:
        # It knows its nodes by identity: a copy is made of the copied variables.
        return _remade, (self._roots, self._remaking)

    # The graph

    def data_of(self, node: Expression) -> Data | None:
        """What a variable is observed at, None where it is latent."""
        if not isinstance(node, RandomVariable):
            return None
        return node.data if self._data is None else self._data.get(node)

    def _input_of(self, node: Expression) -> Input | None:
        if not self._inputs or not isinstance(node, Variable) or isinstance(node, RandomVariable):
            return None
        return self._inputs.get(node.name)

    def _parents(self, node: Expression) -> Sequence[Expression]:
        if self._input_of(node) is not None:
            return ()
        data = self.data_of(node)
        if data is None:
            return node.parents
        own = () if self._is_posterior else node.parents
        return (*own, data) if isinstance(data, Expression) else own

    def _stand_ins(self) -> set[int]:
        """Variables that are data of a variable of their own name, and so no sites themselves."""
        found = set()
        for node in self.nodes:
            data = self.data_of(node)
            if isinstance(data, Variable) and data.name == getattr(node, "name", None):
                found.add(id(data))
        if self._is_posterior:
            found |= {id(node) for node in self.nodes if self.data_of(node) is not None}
        return found

    def _observed(self) -> dict[int, Observation]:
        given = [(node, self.data_of(node)) for node in self.nodes]
        tensors = {id(node): data for node, data in given if isinstance(data, torch.Tensor)}
        if not tensors:
            return {}
        ranks = self._static_ranks()
        observed = [node for node, _ in given if id(node) in tensors and isinstance(node, Variable)]
        shapes: dict[str, torch.Size] | None = None
        found = {}
        for node in observed:
            shape = torch.Size()
            if ranks[id(node)] != 0:
                shapes = _shapes(Program(observed, data={})) if shapes is None else shapes
                shape = shapes[node.name]
            found[id(node)] = shaped(node, tensors[id(node)], shape)
        return found

    def _static_ranks(self) -> dict[int, int | None]:
        ranks: dict[int, int | None] = {}
        for node in self.nodes:
            given = self._input_of(node)
            if given is not None:
                ranks[id(node)] = given.value.rank
                continue
            known = all(id(parent) in ranks for parent in node.parents)
            ranks[id(node)] = node.static_rank([ranks[id(p)] for p in node.parents]) if known else None
        return ranks

    def static_ranks_by_name(self) -> dict[str, int | None]:
        """Data dimensions of every variable, None where only a run can tell."""
        ranks = self._static_ranks()
        return {variable.name: ranks[id(variable)] for variable in self.variables}

    def names_of_fixed(self) -> set[str]:
        """Variables whose law, or value, does not depend on draws of others."""
        depends: dict[int, bool] = {}
        found = set()
        for node in self.nodes:
            inner = any(depends[id(parent)] or isinstance(parent, _DRAWN) for parent in self._parents(node))
            depends[id(node)] = inner
            if isinstance(node, Variable) and not inner and not _is_drawn_rows(node):
                found.add(node.name)
        return found

    def shapes(self) -> dict[str, torch.Size]:
        """Shape of one value of every variable that is an array, found by one run without data."""
        if self._is_posterior:
            return _shapes(self)
        return _shapes(Program(self._roots, data={}))

    def input_shapes(self, names: Iterable[str]) -> dict[str, Shape]:
        """Shapes of those variables among some names that have no law, and so can be given values."""
        wanted = set(names)
        found = {}
        for node in self.nodes:
            if isinstance(node, Variable) and not isinstance(node, _DRAWN) and node.name in wanted:
                own = getattr(node, "row_shape", None)
                shape = self.shapes()[node.name] if own is None else own
                found[node.name] = Shape(shape, id(node) in self._rows)
        return found

    # The function

    @property
    def nesting(self) -> int:
        """How many batch dimensions its plates use."""
        return 1 if self._rows else 0

    def _compile(self) -> None:
        place = {id(node): i for i, node in enumerate(self.nodes)}
        self._initial: list[Any] = [
            node.value if isinstance(node, (Constant, Given)) else None for node in self.nodes
        ]
        self.steps: list[tuple[int, tuple[int, ...], Step]] = []
        for i, node in enumerate(self.nodes):
            if self._initial[i] is None:
                self.steps.append((i, tuple(place[id(p)] for p in self._parents(node)), self._step(node)))
        self._places = [(variable.name, place[id(variable)]) for variable in self.variables]

    def __call__(self) -> dict[str, torch.Tensor]:
        """Run the model once; values by name, shape batch + data."""
        run = Run(self.names.register(), {}, {}, {})
        values = list(self._initial)
        i = 0
        parents: tuple[int, ...] = ()
        try:
            for i, parents, step in self.steps:
                values[i] = step(run, [values[p] for p in parents])
        except _REFUSALS as error:
            if type(error) not in _REFUSALS or isinstance(self.nodes[i], Variable):
                raise
            refused = self._refused(i, [values[p] for p in parents], error)
            raise refused.with_traceback(error.__traceback__) from error
        return {name: values[i].tensor for name, i in self._places}

    def _refused(self, place: int, values: Sequence[Value], error: Exception) -> SiteError:
        """What to say of an expression whose function refuses its values."""
        node, needs = self.nodes[place], {id(self.nodes[place])}
        for other in self.nodes[place + 1 :]:
            if any(id(parent) in needs for parent in self._parents(other)):
                needs.add(id(other))
        name = next((v.name for v in self.variables if id(v) in needs), None)
        shown = ", ".join(
            f"{parent} {list(value.shape)}"
            for parent, value in zip(self._parents(node), values, strict=True)
            if isinstance(value.tensor, torch.Tensor)
        )
        return SiteError(
            (f"variable '{name}': " if name else "")
            + f"expected an expression that can be computed, got '{node}' with {shown or 'no arrays'}, which "
            f"raises {type(error).__name__}: {error}"
        )

    def _step(self, node: Expression) -> Step:
        if isinstance(node, Parameter):
            place = self.names.place(node)
            return lambda run, values: node.announced(f"{run.prefix}.{place.path}", place)
        if isinstance(node, Call) and node.module is not None:
            return lambda run, values: self.names.call(run.prefix, node, values)
        if isinstance(node, RandomVariable):
            return self._data_step(node) if id(node) in self._unrecorded else self._random_step(node)
        if isinstance(node, Variable):
            return self._fixed_step(node)
        return lambda run, values: node.evaluate(values)

    def law_of(self, node: RandomVariable) -> Callable[[Sequence[Value]], tuple[Any, int]]:
        """What gives a variable's law, and the data dimensions of a draw, from the values of its parents."""
        count, is_vector, is_silent = len(node.arguments), self._vectors.get(node.name), node.is_silent

        def law_of(values: Sequence[Value]) -> tuple[Any, int]:
            own = values[:count]
            law, rank = node.law(own) if is_vector is None else node.law(own, is_vector)
            return (law.mask(False) if is_silent else law), rank

        return law_of

    def draws(self, node: RandomVariable) -> bool:
        """Whether a variable is drawn, and does not stand for its data alone."""
        return id(node) not in self._unrecorded

    def is_point(self, node: Expression) -> bool:
        """Whether a variable without a law is the draw of a point law."""
        return isinstance(node, Variable) and node.name in self._points

    def with_steps(self, steps: Sequence[tuple[int, tuple[int, ...], Step]]) -> Program:
        """The same program with other steps."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.steps = list(steps)
        return twin

    def _random_step(self, node: RandomVariable) -> Step:
        count, rows, name = len(node.arguments), self._rows.get(id(node)), node.name
        observation, has_source = self._observations.get(id(node)), isinstance(self.data_of(node), Expression)
        law_of = self.law_of(node)

        # A silent variable of a posterior need not be one of the model's: others are mixed over it.
        infer = {"is_auxiliary": True} if node.is_silent and self._is_posterior else None

        def run_it(run: Run, values: Sequence[Value]) -> Value:
            law, rank = law_of(values)
            if name in run.wraps:
                law = run.wraps.pop(name)(law)
            if observation is None and not has_source:
                if rows is None:
                    return Value(sample(name, law, infer=infer), rank)
                with run.plate(rows):
                    return Value(sample(name, law, infer=infer), rank)
            if has_source:
                obs = observed_value(node, values[count], law)
            else:
                obs = present(observation, rows, run)  # type: ignore[arg-type]
            with run.inside(rows):
                return Value(sample(name, law, obs=obs), rank)

        return run_it

    def _data_step(self, node: RandomVariable) -> Step:
        """An observed variable in a posterior: its data and nothing else."""
        observation, rows = self._observations.get(id(node)), self._rows.get(id(node))
        if observation is None:
            return lambda run, values: values[0]
        rank = observation.tensor.dim() - (observation.rows is not None)
        return lambda run, values: Value(present(observation, rows, run), rank)

    def _fixed_step(self, node: Variable) -> Step:
        rows, name = self._rows.get(id(node)), node.name
        is_point = node.name in self._points
        # The plate that rows are drawn by is their site.
        is_shown = id(node) not in self._unrecorded and not isinstance(node, RandomIndices)
        given = self._input_of(node)
        own = value_of(node, rows) if given is None else (lambda run, values: given.value)

        def run_it(run: Run, values: Sequence[Value]) -> Value:
            value = own(run, values)
            if not is_shown:
                return value
            with run.inside(rows):
                if not isinstance(value.tensor, torch.Tensor):
                    for key, entry in entries(value):
                        deterministic(Part(name, key), entry.tensor, entry.rank)
                    return value
                if is_point:
                    return Value(sample(name, Delta(value.tensor, event_dim=value.rank)), value.rank)
                return Value(deterministic(name, value.tensor, value.rank), value.rank)

        return run_it


def _remade(variables: list[Variable], options: dict[str, Any]) -> Program:
    return Program(variables, **options)


def _shapes(program: Program) -> dict[str, torch.Size]:
    with alone():
        record = trace(program).get_trace()
    found = {site.name: site.fn.event_shape for site in record.sites("sample")}
    for site in record.sites("deterministic"):
        shape = site.value.shape
        found[site.name] = shape[len(shape) - (site.kwargs["event_dim"] or 0) :]
    return found
