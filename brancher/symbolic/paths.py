"""Gradients along the paths of draws alone: densities of a posterior with its learned values held still.

The gradient of the evidence lower bound has a part that is zero on average, the score of the posterior at its
own draws. Left out, what remains vanishes where the posterior is exact: no noise keeps it from there
(Roeder, Wu & Duvenaud 2017, "Sticking the landing", arXiv:1703.09194, eq. 8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from brancher.symbolic.batches import Value
from brancher.symbolic.calls import Call
from brancher.symbolic.expressions import Expression
from brancher.symbolic.flows import TransformedVariable
from brancher.symbolic.parameters import Parameter
from brancher.symbolic.program import Program
from brancher.symbolic.runs import Run, Step
from brancher.symbolic.variables import RandomVariable, Variable
from brancher.symbolic.wrapped import WrappedLaw

LawOf = Callable[[Sequence[Value]], tuple[Any, int]]
#: Parents whose values are learned: their place among the parents, and in the program.
Moving = Sequence[tuple[int, int]]


class PathLaw(WrappedLaw):
    """A law whose draws are differentiable in its arguments, and whose density is so in the value alone.

    Args:
        law: what is drawn from.
        still: the same law with arguments in which nothing is learned.
    """

    has_rsample = True

    def __init__(self, law: Any, still: Any) -> None:
        self.still = still
        super().__init__(law)

    def expand(self, batch_shape: Any, _instance: Any = None) -> PathLaw:
        return PathLaw(self.law.expand(batch_shape), self.still.expand(batch_shape))

    def rsample(self, sample_shape: Any = torch.Size()) -> torch.Tensor:  # noqa: B008
        drawn: torch.Tensor = self.law.rsample(sample_shape)
        return drawn

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        density: torch.Tensor = self.still.log_prob(value)
        return density


def with_paths(program: Program) -> Program:
    """A posterior whose densities are differentiated along draws alone; itself where networks are learned.

    Flows are taken as they are: their densities at draws need no inverse only where nothing is held still.
    """
    if any(_is_network(node) or isinstance(node, TransformedVariable) for node in program.nodes):
        return program
    learned: set[int] = set()
    steps = []
    for place, parents, step in program.steps:
        node = program.nodes[place]
        moving = [(k, parent) for k, parent in enumerate(parents) if parent in learned]
        if isinstance(node, Parameter):
            learned.add(place)
            step = _held(place, step)
        elif isinstance(node, RandomVariable):
            if moving and program.draws(node):
                step = _scored(node.name, program.law_of(node), moving, step)
        elif moving and not program.is_point(node):
            learned.add(place)
            step = _noted(place, node, moving, step)
        steps.append((place, parents, step))
    return program.with_steps(steps)


def _is_network(node: Expression) -> bool:
    return isinstance(node, Call) and node.module is not None


def _held(place: int, step: Step) -> Step:
    """A learned value, noted as it is now."""

    def run_it(run: Run, values: Sequence[Value]) -> Value:
        value = step(run, values)
        run.still[place] = Value(value.tensor.detach(), value.rank)
        return value

    return run_it


def _noted(place: int, node: Expression, moving: Moving, step: Step) -> Step:
    """What is computed from learned values, noted as it would be if they were none."""

    def run_it(run: Run, values: Sequence[Value]) -> Value:
        still = _stilled(run, values, moving)
        run.still[place] = still[0] if isinstance(node, Variable) else node.evaluate(still)
        return step(run, values)

    return run_it


def _scored(
    name: str, law_of: Callable[[Sequence[Value]], tuple[Any, int]], moving: Moving, step: Step
) -> Step:
    """A draw, scored by the law that it would have if nothing were learned."""

    def run_it(run: Run, values: Sequence[Value]) -> Value:
        held, _ = law_of(_stilled(run, values, moving))
        if held.has_rsample:
            run.wraps[name] = lambda law: PathLaw(law, held)
        return step(run, values)

    return run_it


def _stilled(run: Run, values: Sequence[Value], moving: Moving) -> list[Value]:
    still = list(values)
    for place, parent in moving:
        still[place] = run.still[parent]
    return still
