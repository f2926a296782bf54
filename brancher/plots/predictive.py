"""Simulated data beside observed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from brancher.errors import InferenceError, UnknownNameError, nearest
from brancher.plots.style import DATA, INK, Draws, new_axes, styled


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
    with styled() as seaborn:
        ax = new_axes(1, 1, 6.0, 3.4)[1][0, 0] if ax is None else ax
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
