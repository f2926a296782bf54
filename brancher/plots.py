"""Pictures of draws and losses, by seaborn. Each returns its axes or grid and shows nothing.

The style holds while a picture is made; matplotlib's settings stay as they were.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from brancher.errors import InferenceError, UnknownNameError, nearest, require
from brancher.frames import draws_frame, pick
from brancher.infer.diagnostics import hpdi

INK, DATA = "#3b6fb6", "#222222"
Draws = Mapping[str, Any]


@contextmanager
def _seaborn() -> Iterator[Any]:
    seaborn = require("seaborn", "plot", "plots")
    with seaborn.axes_style("ticks"), seaborn.plotting_context("notebook", font_scale=0.85):
        yield seaborn


def _new_axes(rows: int, columns: int, width: float, height: float) -> Any:
    pyplot = require("matplotlib.pyplot", "plot", "plots")
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    return figure, axes


def _table(samples: Draws, names: Sequence[str] | str | None, limit: int | None) -> Any:
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


def plot_posterior(
    samples: Draws, names: Sequence[str] | str | None = None, prob: float = 0.9, columns: int = 4
) -> Any:
    """Density of every entry, with its mean and its highest-density interval.

    Args:
        samples: draws by site.
        names: the sites to show, all for None; at most 64 entries.
        prob: how much of the draws the shaded interval holds.
        columns: pictures side by side.

    Returns:
        An array of axes, one an entry.

    Raises:
        InferenceError: there are too many entries, or no draws.
        MissingExtraError: seaborn is not installed.
    """
    table = _table(samples, names, 64)
    with _seaborn() as seaborn:
        wide = min(columns, table.shape[1])
        figure, axes = _new_axes(-(-table.shape[1] // wide), wide, 2.8, 2.1)
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
    table = _table(samples, names, 10)
    rows = np.unique(np.linspace(0, len(table) - 1, max_draws).round().astype(int))
    with _seaborn() as seaborn:
        grid = seaborn.PairGrid(table.iloc[rows].astype(float), corner=True, height=1.8)
        grid.map_lower(seaborn.scatterplot, s=8, alpha=0.35, color=INK, linewidth=0)
        grid.map_diag(functools.partial(_draw_histogram, seaborn))
    return grid


def _draw_histogram(seaborn: Any, x: Any, **_: Any) -> None:
    whole = bool(np.all(x == np.round(x)))
    seaborn.histplot(x=x, discrete=whole or None, element="bars" if whole else "step", color=INK, alpha=0.5)


def plot_loss(losses: Any, window: int | None = None, ax: Any = None) -> Any:
    """A history of losses, with its running mean.

    Args:
        losses: what ``SVI.run`` returned, or any sequence of losses in nats.
        window: steps that the running mean covers; a twentieth of them for None.
        ax: matplotlib axes to draw into; new ones for None.

    Returns:
        The axes.

    Raises:
        InferenceError: there is no loss.
        MissingExtraError: seaborn is not installed.
    """
    import pandas as pd

    values = getattr(losses, "losses", losses)
    series = values if isinstance(values, pd.Series) else pd.Series([float(x) for x in values])
    if series.empty:
        raise InferenceError("plot_loss: expected at least one loss, got none")
    smooth = series.rolling(window or max(1, len(series) // 20), min_periods=1, center=True).mean()
    with _seaborn() as seaborn:
        ax = _new_axes(1, 1, 6.0, 3.2)[1][0, 0] if ax is None else ax
        ax.plot(series.index, series, color=INK, alpha=0.35, linewidth=0.8, label="each step")
        ax.plot(smooth.index, smooth, color=INK, linewidth=1.8, label="running mean")
        ax.set(xlabel="step", ylabel="negative ELBO (nats)", ylim=_span(series))
        ax.legend(frameon=False)
        seaborn.despine(ax=ax)
    return ax


def _span(series: Any) -> tuple[float, float]:
    """Limits that leave out the heights of the first steps, so that the end can be read."""
    finite = series[np.isfinite(series)]
    late = finite.iloc[len(finite) // 20 :]
    low, high = float(late.min()), float(late.quantile(0.995))
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def plot_ppc(
    samples: Draws,
    observed: Any,
    name: str | None = None,
    max_draws: int = 50,
    statistic: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ax: Any = None,
) -> Any:
    """A posterior predictive check: simulated data over the observed ones.

    Args:
        samples: draws of the observed site, as ``Predictive`` gives them.
        observed: the data, shape of the site; or a mapping from site to data.
        name: the site; may be left out where there is one.
        max_draws: how many simulated data sets to show.
        statistic: compares one number a data set instead of all values, such as ``torch.max``.
        ax: matplotlib axes to draw into; new ones for None.

    Returns:
        The axes.

    Raises:
        UnknownNameError: the site is not among the samples.
        InferenceError: the data do not have the site's shape.
        MissingExtraError: seaborn is not installed.
    """
    name = _site(samples, observed, name)
    data = torch.tensor(np.asarray(observed[name] if isinstance(observed, Mapping) else observed)).reshape(-1)
    draws = torch.as_tensor(samples[name]).flatten(0, getattr(samples, "batch_ndims", 1) - 1)
    draws = draws.reshape(draws.shape[0], -1).cpu()
    if draws.shape[1] != len(data):
        raise InferenceError(
            f"plot_ppc '{name}': expected {draws.shape[1]} observed values, one an entry of the site, got "
            f"{len(data)}"
        )
    with _seaborn() as seaborn:
        ax = _new_axes(1, 1, 6.0, 3.4)[1][0, 0] if ax is None else ax
        if statistic is not None:
            _compare_statistic(seaborn, ax, draws, data, statistic)
        else:
            rows = np.unique(np.linspace(0, len(draws) - 1, max_draws).round().astype(int))
            _compare_values(seaborn, ax, draws[rows].numpy(), data.numpy())
        ax.set_xlabel(name)
        ax.legend(frameon=False)
        seaborn.despine(ax=ax, left=not ax.get_ylabel())
    return ax


def _site(samples: Draws, observed: Any, name: str | None) -> str:
    known = [key for key in samples if not isinstance(observed, Mapping) or key in observed]
    if name is None and len(known) == 1:
        return known[0]
    if name not in samples:
        raise UnknownNameError(
            f"plot_ppc: expected name as one of {list(samples)}, got {name!r}"
            f"{nearest(str(name), samples) or '; name the observed site'}"
        )
    return str(name)


def _compare_values(seaborn: Any, ax: Any, draws: np.ndarray[Any, Any], data: np.ndarray[Any, Any]) -> None:
    whole = np.concatenate([draws.reshape(-1), data])
    if bool(np.all(whole == np.round(whole))) and np.ptp(whole) <= 60:
        _compare_counts(ax, draws, data)
        return
    for i, row in enumerate(draws):
        label = "simulated" if i == 0 else None
        seaborn.kdeplot(x=row, color=INK, alpha=0.25, linewidth=0.8, warn_singular=False, label=label, ax=ax)
    seaborn.kdeplot(x=data, color=DATA, linewidth=2.0, warn_singular=False, label="observed", ax=ax)
    seaborn.rugplot(x=data, color=DATA, height=0.03, ax=ax)
    ax.set(ylabel="", yticks=[])


def _compare_counts(ax: Any, draws: np.ndarray[Any, Any], data: np.ndarray[Any, Any]) -> None:
    low = int(min(draws.min(), data.min()))
    values = np.arange(low, int(max(draws.max(), data.max())) + 1)
    counts = np.stack([np.bincount(row.astype(int) - low, minlength=len(values)) for row in draws])
    middle = np.median(counts, axis=0)
    spread = np.abs(np.quantile(counts, [0.05, 0.95], axis=0) - middle)
    ax.bar(
        values, np.bincount(data.astype(int) - low, minlength=len(values)), color="#cccccc", label="observed"
    )
    ax.errorbar(
        values, middle, spread, fmt="o", color=INK, markersize=4, linewidth=1.2, label="simulated, 90 %"
    )
    ax.set_ylabel("count")
    ax.yaxis.get_major_locator().set_params(integer=True)


def _compare_statistic(
    seaborn: Any,
    ax: Any,
    draws: torch.Tensor,
    data: torch.Tensor,
    statistic: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    simulated = np.array([float(statistic(row)) for row in draws])
    value = float(statistic(data.to(draws.dtype)))
    seaborn.histplot(x=simulated, color=INK, alpha=0.4, element="step", label="simulated", ax=ax)
    ax.axvline(value, color=DATA, linewidth=2.0, label=f"observed, p = {(simulated >= value).mean():.2f}")
    ax.set(ylabel="", yticks=[])


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
    table = _table(samples, names, 200)
    draws = torch.tensor(table.to_numpy(dtype=float))
    places = np.arange(table.shape[1])[::-1]
    with _seaborn() as seaborn:
        ax = _new_axes(1, 1, 6.0, 0.8 + 0.26 * len(places))[1][0, 0] if ax is None else ax
        for level, width in ((prob, 1.2), (min(0.5, prob / 2), 3.5)):
            low, high = hpdi(draws, level).numpy()
            ax.hlines(places, low, high, color=INK, linewidth=width)
        ax.plot(table.median().to_numpy(), places, "o", color="white", markeredgecolor=INK, markersize=5)
        ax.set_yticks(places, list(table))
        ax.set_xlabel(f"median, 50 % and {100 * prob:g} % highest-density intervals")
        ax.grid(axis="x", color="#eeeeee")
        seaborn.despine(ax=ax, left=True)
    return ax
