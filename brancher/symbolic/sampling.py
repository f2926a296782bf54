"""Drawing from a program, alone or after a guide, in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from brancher.distributions.shapes import broadcast
from brancher.errors import InferenceError
from brancher.handlers import Message, substitute, trace
from brancher.infer.draws import check_count
from brancher.infer.pairing import paired_traces
from brancher.infer.particles import particle_plate
from brancher.symbolic.data import RandomIndices
from brancher.symbolic.inputs import Input, as_inputs
from brancher.symbolic.parts import owner_of
from brancher.symbolic.program import Program
from brancher.symbolic.scoring import placed


def inputs_of(program: Program, given: Mapping[str, torch.Tensor], count: int) -> dict[str, Input]:
    """The given values that are inputs: of variables without a law.

    Args:
        program: the model.
        given: values by name.
        count: how many draws there will be.

    Raises:
        SiteError: a value has another shape than the variable's.
    """
    shapes = program.input_shapes(given)
    return as_inputs({name: given[name] for name in shapes}, shapes, count, program.nesting)


def draw(
    program: Program, guide: Callable[..., Any] | None, count: int, given: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Draw every variable of a program, all draws as one batch left of the plates.

    Args:
        program: the model.
        guide: gives the latent sites; None draws them too.
        count: how many draws, > 0.
        given: fixed values by name: one, or one for every draw.

    Returns:
        Values by name, shape (count, [rows], *data).
    """
    check_count("get_sample", "number_samples", count)
    values, many, nesting = placed(program, given)
    if many not in (None, count):
        raise InferenceError(
            f"input_values: expected one value, or one for each of {count} draws, got {many}"
        )

    def answer(message: Message) -> torch.Tensor | None:
        return values.get(message.name) if message.type == "sample" else None

    with torch.no_grad(), substitute(substitute_fn=answer), particle_plate(count, nesting):
        if guide is None:
            record = trace(program).get_trace()
        else:
            record = paired_traces(program, guide, (), {})[0]
    found = {}
    for site in record.sites("sample", "deterministic"):
        if site.type == "sample":
            rank = len(site.fn.event_shape)
        else:
            rank = site.kwargs["event_dim"] or 0
        owner = owner_of(site.name)
        rows = (program.rows[owner].present,) if owner in program.rows else ()
        data = site.value.shape[site.value.dim() - rank :]
        full = (count, *(rows or (1,) * nesting), *data)
        found[site.name] = (
            site.value.detach()
            .expand(broadcast(site.name, site.value.shape, full))
            .reshape((count, *rows, *data))
        )
    for variable in program.variables:
        if isinstance(variable, RandomIndices):
            seen = record.nodes.get(variable.name)
            drawn = torch.arange(variable.batch_size) if seen is None else seen.value
            found[variable.name] = drawn.expand(count, *drawn.shape)
    owned: dict[str, list[str]] = {}
    for name in found:
        owned.setdefault(owner_of(name), []).append(name)
    return {name: found[name] for variable in program.variables for name in owned.get(variable.name, ())}
