"""A posterior with the structure of the model: its own laws, each corrected by learned values.

Automatic structured variational inference (Ambrogioni et al. 2021, arXiv:2002.00643): every argument
of a latent variable's law becomes a convex combination of what the model says and a free value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.distributions.constraints import Constraint

from brancher.distributions import constraints
from brancher.errors import InferenceError
from brancher.handlers import trace
from brancher.symbolic.alone import alone
from brancher.symbolic.blends import Blend
from brancher.symbolic.expressions import Expression
from brancher.symbolic.parameters import Parameter, smooth
from brancher.symbolic.program import Program
from brancher.symbolic.variables import RandomVariable

#: First weight of the model's own arguments.
PRIOR_WEIGHT = 0.5


def structured_posterior(latents: Sequence[RandomVariable]) -> list[RandomVariable]:
    """Make a posterior variable of every latent one, parents replaced by posterior variables.

    Args:
        latents: latent variables, in the order of declaration.

    Raises:
        InferenceError: a law has no arguments that could be learned, or a variable has data points.
    """
    first = _first_arguments(latents)
    twins: dict[int, Expression] = {}
    made = []
    for variable in latents:
        arguments = {
            key: _corrected(variable, key, twin_of(node, twins), first[variable.name][key])
            for key, node in variable.arguments.items()
        }
        twin = _twin(variable, arguments)
        twins[id(variable)] = twin
        made.append(twin)
    return made


def twin_of(root: Expression, twins: dict[int, Expression]) -> Expression:
    """A copy of an expression in which variables are replaced by their twins."""
    todo = [root]
    while todo:
        node = todo[-1]
        missing = [p for p in node.parents if id(p) not in twins] if id(node) not in twins else []
        if missing:
            todo.extend(missing)
            continue
        todo.pop()
        if id(node) in twins:
            continue
        parents = [twins[id(p)] for p in node.parents]
        changed = any(a is not b for a, b in zip(parents, node.parents, strict=True))
        twins[id(node)] = _rebuilt(node, parents) if changed else node
    return twins[id(root)]


def _rebuilt(node: Expression, parents: Sequence[Expression]) -> Expression:
    new = object.__new__(type(node))
    new.__dict__.update(node.__dict__)
    Expression.__init__(new, parents)
    if isinstance(node, RandomVariable) or hasattr(node, "arguments"):
        new.arguments = dict(zip(node.arguments, parents, strict=True))  # type: ignore[attr-defined]
    return new


def _twin(variable: RandomVariable, arguments: dict[str, Expression]) -> RandomVariable:
    new = object.__new__(type(variable))
    new.__dict__.update(variable.__dict__)
    new.arguments = arguments
    Expression.__init__(new, list(arguments.values()))
    new.data = None
    return new


def _corrected(variable: RandomVariable, key: str, prior: Expression, start: torch.Tensor) -> Expression:
    argument = variable.family.argument(key)
    if argument is None or not argument.is_learnable or not start.is_floating_point():
        return prior
    constraint: Constraint = smooth(argument.constraint, argument.name)
    free = Parameter(variable.name, key, start, constraint)
    # Convex sets allow a convex combination; factors of matrices do not stay inside otherwise.
    weight = Parameter(variable.name, f"{key}_weight", torch.tensor(PRIOR_WEIGHT), constraints.unit_interval)
    return Blend(prior, free, weight)


def _first_arguments(latents: Sequence[RandomVariable]) -> dict[str, dict[str, torch.Tensor]]:
    """Arguments of the model's laws at one draw, made the start of the free values."""
    program = Program(list(latents), data={})
    found: dict[str, dict[str, torch.Tensor]] = {}
    watched: dict[str, Any] = {}
    with alone():
        record = trace(program).get_trace()
    for variable in latents:
        if variable.name in program.rows:
            raise InferenceError(
                f"variable '{variable.name}': expected latent variables without data points for a structured "
                f"posterior, got one for each of {program.rows[variable.name].present}; give a posterior by "
                "hand, or sample with inference.NUTS(), which sums discrete variables out"
            )
        fn = record.nodes[variable.name].fn
        while hasattr(fn, "base_dist"):
            fn = fn.base_dist
        watched[variable.name] = fn
    for variable in latents:
        found[variable.name] = {}
        for key in variable.arguments:
            argument = variable.family.argument(key)
            keyword = key if argument is None else argument.keyword
            value = getattr(watched[variable.name], keyword, None)
            if not isinstance(value, torch.Tensor):
                raise InferenceError(
                    f"variable '{variable.name}': expected a law whose argument '{key}' can be read, got "
                    f"{type(watched[variable.name]).__name__}; give a posterior by hand"
                )
            found[variable.name][key] = value.detach().clone()
    return found
