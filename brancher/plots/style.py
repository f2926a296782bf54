"""How the pictures look, and the tables they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

from brancher.errors import InferenceError, require
from brancher.frames import draws_frame, pick

INK, DATA = "#3b6fb6", "#222222"
Draws: TypeAlias = Mapping[str, Any]


@contextmanager
def styled() -> Iterator[Any]:
    """Hold the pictures' style for a block, and give seaborn."""
    seaborn = require("seaborn", "plot", "plots")
    with seaborn.axes_style("ticks"), seaborn.plotting_context("notebook", font_scale=0.85):
        yield seaborn


def new_axes(rows: int, columns: int, width: float, height: float) -> Any:
    """A new figure and its axes, ``width`` x ``height`` inches each."""
    pyplot = require("matplotlib.pyplot", "plot", "plots")
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    return figure, axes


def table_of(samples: Draws, names: Sequence[str] | str | None, limit: int | None) -> Any:
    """Draws as a table, chains put end to end; refuses more entries than a picture can show."""
    lead = getattr(samples, "batch_ndims", 1)
    values = {name: torch.as_tensor(value) for name, value in pick(samples, names).items()}
    flat = {name: value.flatten(0, 1) if lead == 2 else value for name, value in values.items()}
    table = draws_frame(flat, ("draw",), getattr(samples, "dims", None), getattr(samples, "coords", None))
    if limit is not None and table.shape[1] > limit:
        raise InferenceError(
            f"plot: expected at most {limit} entries in one picture, got {table.shape[1]}; choose some "
            "with names="
        )
    if table.empty:
        raise InferenceError("plot: expected draws, got none")
    return table
