"""Pictures of draws: densities, pairs, intervals."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from brancher.infer.diagnostics import hpdi
from brancher.plots.models import Names, as_names, draw_pairs
from brancher.plots.style import DATA, INK, Draws, new_axes, styled, table_of
from brancher.symbolic import ProbabilisticModel


def plot_posterior(
    samples: Draws | ProbabilisticModel,
    names: Names = None,
    prob: float = 0.9,
    columns: int = 4,
    *,
    variables: Names = None,
    number_samples: int = 1000,
    prior: bool = True,
    seed: int | None = None,
) -> Any:
    """Density of every entry, with its mean and its highest-density interval.

    Of a ``ProbabilisticModel``: a pair grid of its posterior, with the prior behind it.

    Args:
        samples: draws by site; or a model with a posterior.
        names: what to show, all for None; at most 64 entries, 10 of a model.
        prob: how much of the draws the shaded interval holds.
        columns: pictures side by side.
        variables: ``names``, as algebraic models call them.
        number_samples: draws of a model.
        prior: whether to show a model's prior.
        seed: of a model's draws.

    Returns:
        An array of axes, one an entry; of a model the seaborn ``PairGrid``.

    Raises:
        InferenceError: there are too many entries, or no draws, or no posterior.
        MissingExtraError: seaborn is not installed.
    """
    names = variables if names is None else names
    if isinstance(samples, ProbabilisticModel):
        return draw_pairs(samples, names, number_samples, prior, seed)
    table = table_of(samples, as_names(names), 64)
    with styled() as seaborn:
        wide = min(columns, table.shape[1])
        figure, axes = new_axes(-(-table.shape[1] // wide), wide, 2.8, 2.1)
        for ax, label in zip(axes.flat, table, strict=False):
            _draw_density(seaborn, ax, table[label], prob)
            ax.set_title(label)
        for ax in axes.flat[table.shape[1] :]:
            ax.set_axis_off()
        seaborn.despine(fig=figure, left=True)
    return axes.flat[: table.shape[1]]


def _draw_density(seaborn: Any, ax: Any, draws: Any, prob: float) -> None:
    low, high = hpdi(torch.tensor(draws.to_numpy(dtype=float)), prob).tolist()
    if _is_discrete(draws.to_numpy()):
        seaborn.histplot(x=draws, discrete=True, stat="probability", color=INK, alpha=0.5, ax=ax)
    else:
        seaborn.kdeplot(x=draws, color=INK, warn_singular=False, cut=0, ax=ax)
        _shade(ax, low, high)
    mean = float(draws.mean())
    ax.axvline(mean, color=DATA, linewidth=1.0)
    ax.set(xlabel=f"mean {mean:.3g},  {100 * prob:g} % in [{low:.3g}, {high:.3g}]", ylabel="", yticks=[])


def _shade(ax: Any, low: float, high: float) -> None:
    for line in ax.get_lines()[:1]:
        x, y = line.get_data()
        ax.fill_between(x, y, where=(x >= low) & (x <= high), color=INK, alpha=0.25, linewidth=0)


def _is_discrete(values: np.ndarray[Any, Any]) -> bool:
    return values.dtype.kind in "biu"


def plot_pair(samples: Draws, names: Sequence[str] | str | None = None, max_draws: int = 1000) -> Any:
    """Every entry against every other, with their densities on the diagonal.

    Args:
        samples: draws by site.
        names: the sites to show, all for None; at most 10 entries.
        max_draws: points in each panel, evenly taken from the draws.

    Returns:
        The seaborn ``PairGrid``.

    Raises:
        InferenceError: there are too many entries, or no draws.
        MissingExtraError: seaborn is not installed.
    """
    table = table_of(samples, names, 10)
    rows = np.unique(np.linspace(0, len(table) - 1, max_draws).round().astype(int))
    with styled() as seaborn:
        grid = seaborn.PairGrid(table.iloc[rows].astype(float), corner=True, height=1.8)
        grid.map_lower(seaborn.scatterplot, s=8, alpha=0.35, color=INK, linewidth=0)
        grid.map_diag(functools.partial(_draw_histogram, seaborn))
    return grid


def _draw_histogram(seaborn: Any, x: Any, **_: Any) -> None:
    whole = bool(np.all(x == np.round(x)))
    seaborn.histplot(x=x, discrete=whole or None, element="bars" if whole else "step", color=INK, alpha=0.5)


def plot_forest(
    samples: Draws, names: Sequence[str] | str | None = None, prob: float = 0.9, ax: Any = None
) -> Any:
    """Median and highest-density intervals of every entry, one line each.

    Args:
        samples: draws by site.
        names: the sites to show, all for None; at most 200 entries.
        prob: how much of the draws the thin interval holds; the thick one holds half.
        ax: matplotlib axes to draw into; new ones for None.

    Returns:
        The axes.

    Raises:
        InferenceError: there are too many entries, or no draws.
        MissingExtraError: seaborn is not installed.
    """
    table = table_of(samples, names, 200)
    draws = torch.tensor(table.to_numpy(dtype=float))
    places = np.arange(table.shape[1])[::-1]
    with styled() as seaborn:
        ax = new_axes(1, 1, 6.0, 0.8 + 0.26 * len(places))[1][0, 0] if ax is None else ax
        for level, width in ((prob, 1.2), (min(0.5, prob / 2), 3.5)):
            low, high = hpdi(draws, level).numpy()
            ax.hlines(places, low, high, color=INK, linewidth=width)
        ax.plot(table.median().to_numpy(), places, "o", color="white", markeredgecolor=INK, markersize=5)
        ax.set_yticks(places, list(table))
        ax.set_xlabel(f"median, 50 % and {100 * prob:g} % highest-density intervals")
        ax.grid(axis="x", color="#eeeeee")
        seaborn.despine(ax=ax, left=True)
    return ax
