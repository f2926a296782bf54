"""Means, variances and entropies: in closed form where there is one, else from draws with their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from brancher.distributions.shapes import broadcast
from brancher.handlers import Message, trace
from brancher.infer.particles import particle_plate
from brancher.symbolic.program import Program

if TYPE_CHECKING:
    import pandas as pd

#: What is asked of one site: of its law where that is fixed, and of its draws otherwise.
Statistic = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def mean(draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over draws and its standard error."""
    return draws.mean(0), draws.std(0) / len(draws) ** 0.5


def variance(draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance over draws and its standard error."""
    centred = (draws - draws.mean(0)) ** 2
    return draws.var(0), centred.std(0) / len(draws) ** 0.5


def moments(program: Program, kind: str, number_samples: int) -> pd.DataFrame:
    """One row a variable: ``value``, ``standard_error`` and ``method``.

    Args:
        program: the model.
        kind: "mean", "variance" or "entropy".
        number_samples: draws for what has no closed form.
    """
    import pandas as pd

    with torch.no_grad():
        alone = trace(program).get_trace()
        with particle_plate(number_samples, program.nesting):
            batch = trace(program).get_trace()
    fixed = program.names_of_fixed()
    rows = {}
    for site in batch.sites("sample", "deterministic"):
        if kind == "entropy" and site.type == "deterministic":
            continue
        one = alone.nodes[site.name]
        exact = _exact(one, kind) if site.name in fixed else None
        if exact is not None:
            rows[site.name] = (_cell(exact), _cell(torch.zeros_like(exact)), "exact")
        else:
            value, error = _from_draws(site, kind, number_samples, one)
            rows[site.name] = (_cell(value), _cell(error), f"{number_samples} draws")
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "standard_error", "method"])
    return frame.rename_axis("variable")


def _exact(site: Message, kind: str) -> torch.Tensor | None:
    if site.type == "deterministic":
        value: torch.Tensor = site.value.to(torch.get_default_dtype())
        return value if kind == "mean" else torch.zeros_like(value)
    try:
        found = site.fn.entropy() if kind == "entropy" else getattr(site.fn, kind)
    except (NotImplementedError, AttributeError):
        return None
    # NaN and infinity are answers too: a Cauchy law has no mean.
    return found if isinstance(found, torch.Tensor) else None


def _from_draws(site: Message, kind: str, count: int, one: Message) -> tuple[torch.Tensor, torch.Tensor]:
    if kind != "entropy":
        value = site.value.to(torch.get_default_dtype())
        own = one.value.shape
        draws = value.expand(broadcast("draws", value.shape, (count,) + (1,) * (value.dim() - 1)))
        return (mean if kind == "mean" else variance)(draws.reshape(count, *own))
    try:
        each = site.fn.entropy()
    except NotImplementedError:
        each = -site.fn.log_prob(site.value)
    return mean(each.reshape(count, -1).squeeze(-1) if each.numel() != count else each.reshape(count))


def _cell(value: torch.Tensor) -> Any:
    array = value.detach().cpu().numpy()
    return float(array) if array.ndim == 0 else array
