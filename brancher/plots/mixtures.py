"""Pictures of weighted things: the models of an ensemble, the particles of a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from brancher.errors import InferenceError, UnknownNameError, nearest
from brancher.plots.models import PALETTE, Names, as_draws, as_names
from brancher.plots.style import INK, new_axes, styled, table_of
from brancher.symbolic import DeterministicVariable, Ensemble, ProbabilisticModel, Variable
from brancher.symbolic.particles import PointPosterior


def ensemble_histogram(
    samples: Any,
    variable: str | Variable,
    weights: Any = None,
    bins: int = 30,
    number_samples: int = 2000,
    seed: int | None = None,
    ax: Any = None,
) -> Any:
    """Histogram of a variable over an ensemble, each model's share in its colour.

    Args:
        samples: an ensemble, drawn from its posterior; a table of its draws; or a list of tables, one a
            model.
        variable: which; a scalar.
        weights: of the tables of a list; equal ones for None.
        bins: bars.
        number_samples: draws of an ensemble.
        seed: of these.
        ax: matplotlib axes to draw into; new ones for None.

    Returns:
        The axes.

    Raises:
        InferenceError: the weights do not fit, or the variable is no scalar.
        UnknownNameError: no table has the variable.
        MissingExtraError: seaborn is not installed.
    """
    name = variable.name if isinstance(variable, Variable) else variable
    if isinstance(samples, Ensemble):
        samples = samples.get_posterior_sample(number_samples, seed=seed)
    values, shares = _by_model(samples, name, weights)
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    with styled() as seaborn:
        ax = new_axes(1, 1, 6.0, 3.4)[1][0, 0] if ax is None else ax
        ax.hist(
            list(values.values()),
            edges,
            weights=[np.full(len(v), shares[k] / len(v) / np.diff(edges)[0]) for k, v in values.items()],
            stacked=True,
            color=seaborn.color_palette(PALETTE if len(values) <= len(PALETTE) else "husl", len(values)),
            label=[f"{model}, {100 * shares[model]:.0f} %" for model in values],
        )
        ax.set(xlabel=name, ylabel="density")
        ax.legend(frameon=False)
        seaborn.despine(ax=ax)
    return ax


def _by_model(samples: Any, name: str, weights: Any) -> tuple[dict[str, Any], dict[str, float]]:
    if hasattr(samples, "columns"):
        if "model" not in samples or weights is not None:
            raise InferenceError(
                "ensemble_histogram: expected a table of an Ensemble's draws, with the column 'model' and no "
                "other weights; give a list of tables with their weights"
            )
        tables = dict(iter(samples.groupby("model")))
        shares = {model: len(table) / len(samples) for model, table in tables.items()}
    else:
        tables = {f"model_{i}": table for i, table in enumerate(samples)}
        given = np.ones(len(tables)) if weights is None else np.asarray(weights, dtype=float)
        if given.shape != (len(tables),) or not (given >= 0).all() or not given.sum() > 0:
            raise InferenceError(
                f"ensemble_histogram: expected {len(tables)} weights >= 0, one a table, got {weights!r}"
            )
        shares = dict(zip(tables, (given / given.sum()).tolist(), strict=True))
    values = {model: _numbers(table, name) for model, table in tables.items()}
    return {model: found for model, found in values.items() if len(found)}, shares


def _numbers(table: Any, name: str) -> Any:
    if name not in table:
        raise UnknownNameError(
            f"ensemble_histogram: expected a variable among {list(table)}, got '{name}'"
            f"{nearest(name, list(table)) or '; check the spelling'}"
        )
    try:
        return table[name].dropna().to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise InferenceError(f"ensemble_histogram '{name}': expected a scalar variable, got arrays") from None


def plot_particles(
    particles: Any, variables: Names = None, weights: Any = None, trace: Any = None, ax: Any = None
) -> Any:
    """Particles of a posterior, as large as their weights.

    Args:
        particles: a model fitted by Stein's or Wasserstein's particles; the models of the particles, a list;
            or points by name, such as a table.
        variables: one or two entries to show, by variable or label, such as ``"x[1]"``; the first two for
            None.
        weights: of the points; those of the posterior, or equal ones, for None.
        trace: draws by name to show behind them, such as a table of draws of NUTS.
        ax: matplotlib axes to draw into; new ones for None.

    Returns:
        The axes.

    Raises:
        InferenceError: the posterior has no particles, or more than two entries are chosen.
        MissingExtraError: seaborn is not installed.
    """
    if isinstance(particles, ProbabilisticModel):
        posterior = particles._posterior
        if not isinstance(posterior, PointPosterior):
            raise InferenceError(
                "plot_particles: expected a posterior of particles, got none; fit by "
                "inference.SteinVariationalGradientDescent"
            )
        particles, weights = posterior.values, posterior.weights if weights is None else weights
    elif isinstance(particles, (list, tuple)):
        particles = _places(particles)
    table = table_of(as_draws(particles), None, None).astype(float)
    labels = _entries(table, variables)
    masses = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=float)
    if masses.shape != (len(table),):
        raise InferenceError(
            f"plot_particles: expected {len(table)} weights, one a particle, got shape {masses.shape}"
        )
    with styled() as seaborn:
        ax = new_axes(1, 1, 4.2, 3.8)[1][0, 0] if ax is None else ax
        if len(labels) == 1:
            _draw_lines(seaborn, ax, table[labels[0]], masses / masses.sum(), trace)
        else:
            _draw_points(ax, table[labels], masses / masses.mean(), trace)
        ax.set_xlabel(labels[0])
        seaborn.despine(ax=ax)
    return ax


def _places(models: Sequence[ProbabilisticModel]) -> dict[str, torch.Tensor]:
    """Values of models of deterministic variables, one model a particle."""
    names = [v.name for v in models[0].variables if isinstance(v, DeterministicVariable)]
    return {
        name: torch.stack([model.get_variable(name).value for model in models])  # type: ignore[attr-defined]
        for name in names
    }


def _draw_lines(seaborn: Any, ax: Any, values: Any, masses: Any, trace: Any) -> None:
    ax.vlines(values, 0.0, masses, color=INK, linewidth=1.5)
    ax.plot(values, masses, "o", color=INK, markersize=4)
    ax.set_ylabel("weight")
    if trace is not None:
        behind = ax.twinx()
        seaborn.kdeplot(x=table_of(as_draws(trace), None, None)[values.name], color="#b0b0b0", ax=behind)
        behind.set(yticks=[], ylabel="")
        seaborn.despine(ax=behind)


def _draw_points(ax: Any, table: Any, sizes: Any, trace: Any) -> None:
    if trace is not None:
        behind = table_of(as_draws(trace), None, None).astype(float)[list(table)]
        ax.scatter(behind.iloc[:, 0], behind.iloc[:, 1], s=4.0, color="#b0b0b0", alpha=0.4, linewidth=0)
    ax.scatter(table.iloc[:, 0], table.iloc[:, 1], s=40.0 * sizes, color=INK, alpha=0.8, linewidth=0)
    ax.set_ylabel(table.columns[1])


def _entries(table: Any, variables: Names) -> list[str]:
    names: Sequence[str] | None = as_names(variables)
    if names is None:
        return list(table)[:2]
    chosen = [label for name in names for label in table if label == name or label.startswith(f"{name}[")]
    if not 1 <= len(chosen) <= 2:
        raise InferenceError(
            f"plot_particles: expected one or two entries among {list(table)}, got {chosen or list(names)}"
        )
    return chosen
