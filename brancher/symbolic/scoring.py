"""Log-probabilities of given values, one for every row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from brancher.distributions.shapes import broadcast
from brancher.errors import SiteError
from brancher.handlers import Message, Trace, substitute, trace
from brancher.handlers.density import score
from brancher.infer.particles import particle_plate
from brancher.symbolic.observations import as_data
from brancher.symbolic.program import Program
from brancher.symbolic.variables import RandomVariable


def as_values(given: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Turn numbers, arrays and columns into tensors."""
    found = {}
    for name, value in given.items():
        data = as_data(name, value)
        if not isinstance(data, torch.Tensor):
            raise SiteError(f"variable '{name}': expected a number, array or tensor, got an expression")
        found[name] = data
    return found


def placed(
    program: Program, given: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], int | None, int]:
    """Align values for a batch: shape (count, [rows], *data) each.

    Returns:
        Values by name, how many there are (None for a single one), and the nesting of the program.

    Raises:
        SiteError: a value does not have the shape of its variable, or two numbers of values meet.
    """
    random = {v.name for v in program.variables if isinstance(v, RandomVariable)}
    given = {name: value for name, value in given.items() if name in random}  # the others follow
    if not given:
        return {}, None, program.nesting
    ranks = program.static_ranks_by_name()
    if any(ranks.get(name) != 0 for name in given):
        shapes = {name: tuple(shape) for name, shape in program.shapes().items()}
    else:
        shapes = dict.fromkeys(given, ())
    values, counts = {}, {}
    for name, value in given.items():
        rows = program.rows[name].present if name in program.rows else None
        values[name], counts[name] = _placed_one(name, value, shapes[name], rows, program.nesting)
    many = {name: count for name, count in counts.items() if count is not None}
    if len(set(many.values())) > 1:
        raise SiteError(
            f"calculate_log_probability: expected one number of values, got {many}; give each the same"
        )
    return values, next(iter(many.values()), None), program.nesting


def _placed_one(
    name: str, value: torch.Tensor, shape: tuple[int, ...], rows: int | None, nesting: int
) -> tuple[torch.Tensor, int | None]:
    rank = len(shape)
    full = shape if rows is None else (rows, *shape)
    lead = (1,) * (nesting - (rows is not None))
    for candidate in (
        value,
        value.squeeze(-1) if rank == 0 and value.dim() > 1 and value.shape[-1] == 1 else value,
    ):
        if tuple(candidate.shape) == full:
            return candidate.reshape(lead + full) if lead else candidate, None
        if tuple(candidate.shape[1:]) == full:
            return candidate.reshape(candidate.shape[:1] + lead + full), candidate.shape[0]
        if rows is None and candidate.dim() == rank + 2 and candidate.shape[1] == 1:
            return candidate.reshape(candidate.shape[:1] + lead + full), candidate.shape[0]
    raise SiteError(
        f"variable '{name}': expected values of shape {list(full)}, or {['n', *full]} for n of them, got "
        f"{list(value.shape)}; reshape them"
    )


def log_probabilities(program: Program, given: Mapping[str, Any]) -> tuple[torch.Tensor, int | None]:
    """Joint log-density of the program's variables at given values, in nats.

    Returns:
        Shape () or (count,); and the count, None for a single one.

    Raises:
        SiteError: a random variable has neither a value nor data.
    """
    random = {v.name for v in program.variables if isinstance(v, RandomVariable)}
    scored = {name: value for name, value in given.items() if name in random}  # the others follow
    values, count, nesting = placed(program, as_values(scored))
    missing = [
        v.name
        for v in program.variables
        if isinstance(v, RandomVariable) and v.name not in values and program.data_of(v) is None
    ]
    if missing:
        raise SiteError(
            f"calculate_log_probability: expected a value for every latent variable, got none for {missing}"
        )
    with torch.no_grad():
        return _total(run_at(program, values, count, nesting), count, nesting), count


def _total(record: Trace, count: int | None, nesting: int) -> torch.Tensor:
    total: Any = 0.0
    for site in record.scored():
        log_prob = score(site)
        if count is None:
            total = total + log_prob.sum()
            continue
        own = log_prob.expand(broadcast(site.name, log_prob.shape, (count,) + (1,) * nesting))
        total = total + own.reshape(count, -1).sum(1)
    return torch.as_tensor(total)


def run_at(program: Program, values: Mapping[str, torch.Tensor], count: int | None, nesting: int) -> Trace:
    """Trace a program with its latent variables at given values, as a batch where there are several."""

    def answer(message: Message) -> torch.Tensor | None:
        return values.get(message.name) if message.type == "sample" else None

    with torch.no_grad(), substitute(substitute_fn=answer):
        if count is None:
            return trace(program).get_trace()
        with particle_plate(count, nesting):
            return trace(program).get_trace()


def scalar(value: torch.Tensor) -> Any:
    """A tensor of one entry as a numpy float."""
    return np.float64(value.item())
