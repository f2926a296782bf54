"""Pictures of algebraic models: prior beside posterior, and tables of draws."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brancher.errors import InferenceError
from brancher.plots.style import DATA, INK, new_axes, styled, table_of
from brancher.symbolic import ProbabilisticModel, TruncatedModel, Variable
from brancher.symbolic.draws import Draws

if TYPE_CHECKING:
    import pandas as pd

Names = Sequence[str | Variable] | str | Variable | None

#: Colours of tables that are shown together.
PALETTE = (INK, "#d9822b", "#4f9d69", "#a05195", "#8c6d31", "#777777")


def draw_pairs(
    model: ProbabilisticModel, variables: Names, number_samples: int, prior: bool, seed: int | None
) -> Any:
    """Pair grid of the posterior, with the prior behind it; see ``plot_posterior``."""
    tables = {"posterior": _posterior_table(model, variables, number_samples, seed, 10)}
    if prior:
        tables = {"prior": _prior_table(model, tables["posterior"], number_samples, seed), **tables}
    return _grid(tables, [*(["#b0b0b0"] if prior else []), INK])


def plot_posterior_histogram(
    model: ProbabilisticModel,
    variables: Names = None,
    number_samples: int = 1000,
    prior: bool = True,
    bins: int = 30,
    columns: int = 4,
    seed: int | None = None,
) -> Any:
    """Histograms of every entry under the posterior, and under the prior.

    Args:
        model: a model with a posterior.
        variables: variables or names; all latent ones for None; at most 64 entries.
        number_samples: draws of each.
        prior: whether to show the prior.
        bins: bars; of the posterior's range, so that a wide prior does not flatten them.
        columns: pictures side by side.
        seed: of the draws.

    Returns:
        An array of axes, one an entry.

    Raises:
        InferenceError: there is no posterior, or there are too many entries.
        MissingExtraError: seaborn is not installed.
    """
    posterior = _posterior_table(model, variables, number_samples, seed, 64)
    before = _prior_table(model, posterior, number_samples, seed) if prior else None
    with styled() as seaborn:
        wide = min(columns, posterior.shape[1])
        figure, axes = new_axes(-(-posterior.shape[1] // wide), wide, 3.0, 2.3)
        for ax, label in zip(axes.flat, posterior, strict=False):
            _histograms(ax, posterior[label], None if before is None else before[label], bins)
            ax.set(xlabel=label, ylabel="", yticks=[])
        axes.flat[0].legend(frameon=False)
        for ax in axes.flat[posterior.shape[1] :]:
            ax.set_axis_off()
        seaborn.despine(fig=figure, left=True)
    return axes.flat[: posterior.shape[1]]


def _histograms(ax: Any, posterior: Any, prior: Any, bins: int) -> None:
    values = posterior.to_numpy(dtype=float)
    low, high = float(values.min()), float(values.max())
    room = 0.5 * (high - low) or 0.5
    edges: Any = np.linspace(low - room, high + room, 2 * bins + 1)
    if posterior.dtype.kind in "biu":
        edges = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1.5)
    if prior is not None:
        shown = prior.to_numpy(dtype=float)
        # Heights are densities of all draws, also of those outside the picture.
        weights = np.full(len(shown), 1.0 / len(shown) / (edges[1] - edges[0]))
        ax.hist(
            shown, edges, weights=weights, color="#b0b0b0", alpha=0.6, label="prior", histtype="stepfilled"
        )
    ax.hist(values, edges, density=True, color=INK, alpha=0.6, label="posterior", histtype="stepfilled")


def plot_density(
    samples: Any,
    variables: Names = None,
    number_samples: int = 2000,
    seed: int | None = None,
    ax: Any = None,
) -> Any:
    """Densities of several entries in one picture.

    Args:
        samples: a model, or a truncated one, drawn before data; or draws by name, such as a table of
            ``get_posterior_sample``.
        variables: variables or names; for None all random variables of a model, all columns of a table.
        number_samples: draws of a model.
        seed: of these.
        ax: matplotlib axes to draw into; new ones for None.

    Returns:
        The axes.

    Raises:
        InferenceError: there are more than 12 entries.
        MissingExtraError: seaborn is not installed.
    """
    if isinstance(samples, (ProbabilisticModel, TruncatedModel)):
        whole = samples.model if isinstance(samples, TruncatedModel) else samples
        variables = [v.name for v in whole.random_variables] if variables is None else variables
        samples = _plain(samples._get_sample(number_samples, seed=seed))
    table = table_of(as_draws(samples), as_names(variables), 12)
    with styled() as seaborn:
        ax = new_axes(1, 1, 6.0, 3.4)[1][0, 0] if ax is None else ax
        colors = seaborn.color_palette(PALETTE if table.shape[1] <= len(PALETTE) else "husl", table.shape[1])
        for color, label in zip(colors, table, strict=True):
            values = table[label].astype(float)
            seaborn.kdeplot(
                x=values, color=color, fill=True, alpha=0.25, label=label, warn_singular=False, ax=ax
            )
        ax.set(xlabel="", ylabel="density")
        ax.legend(frameon=False)
        seaborn.despine(ax=ax)
    return ax


def plot_multiple_samples(
    sample_list: Sequence[Any], variables: Names = None, labels: Sequence[str] | None = None
) -> Any:
    """Several tables of draws in one pair grid, each in its colour.

    Args:
        sample_list: draws by name, such as tables of ``get_sample`` of several models; at most 6.
        variables: variables or names, at most 10 entries; what all tables have for None.
        labels: of the tables.

    Returns:
        The seaborn ``PairGrid``.

    Raises:
        InferenceError: there are too many tables or entries, or labels do not fit.
        MissingExtraError: seaborn is not installed.
    """
    labels = [f"sample {i + 1}" for i in range(len(sample_list))] if labels is None else list(labels)
    if not 0 < len(sample_list) <= len(PALETTE) or len(labels) != len(sample_list):
        raise InferenceError(
            f"plot_multiple_samples: expected 1 to {len(PALETTE)} tables, one label each, got "
            f"{len(sample_list)} tables and {len(labels)} labels"
        )
    names = as_names(variables)
    if names is None:
        names = [key for key in sample_list[0] if all(key in each for each in sample_list)]
    tables = {
        label: table_of(as_draws(each), names, 10) for label, each in zip(labels, sample_list, strict=True)
    }
    return _grid(tables, PALETTE[: len(tables)])


# Tables of entries


def as_draws(samples: Any) -> Mapping[str, Any]:
    """Draws as tensors by name; columns of arrays are stacked."""
    if isinstance(samples, Draws):
        return _plain(samples)
    if not hasattr(samples, "columns"):
        return dict(samples)
    found = {}
    for name, column in samples.items():
        if column.dtype == object:
            found[name] = torch.as_tensor(np.stack([np.asarray(cell) for cell in column]))
        else:
            found[name] = torch.tensor(column.to_numpy())
    return found


def _plain(draws: Draws) -> dict[str, torch.Tensor]:
    """Draws (samples, datapoints, *data) without dimensions of size 1 that nobody gave them."""
    found = {}
    for name in draws:
        value = draws[name].squeeze(-1) if draws[name].shape[-1:] == (1,) else draws[name]
        found[name] = value.squeeze(1) if value.shape[1:2] == (1,) else value
    return found


def as_names(variables: Names) -> list[str] | None:
    """Names of variables; None stays."""
    if variables is None:
        return None
    items = [variables] if isinstance(variables, (str, Variable)) else list(variables)
    return [each.name if isinstance(each, Variable) else each for each in items]


def _posterior_table(
    model: ProbabilisticModel, variables: Names, count: int, seed: int | None, limit: int
) -> pd.DataFrame:
    names = as_names(variables)
    if names is None:
        latents = model._pair().latents
        names = [v.name for v in model.variables if v.name in latents]
    table: pd.DataFrame = table_of(_plain(model._get_posterior_sample(count, seed=seed)), names, limit)
    return table


def _prior_table(
    model: ProbabilisticModel, posterior: pd.DataFrame, count: int, seed: int | None
) -> pd.DataFrame:
    names = list(dict.fromkeys(str(label).split("[")[0] for label in posterior))
    # The shown variables and what they depend on: others might be drawn where nothing can be computed.
    shown = ProbabilisticModel([model.get_variable(name) for name in names])
    table: pd.DataFrame = table_of(_plain(shown._get_sample(count, seed=seed)), names, None)
    return table


def _grid(tables: Mapping[str, pd.DataFrame], colors: Sequence[str]) -> Any:
    import pandas as pd

    whole = pd.concat([t.astype(float).assign(law=label) for label, t in tables.items()], ignore_index=True)
    entries = [label for label in whole if label != "law"]
    with styled() as seaborn:
        grid = seaborn.PairGrid(
            whole,
            vars=entries,
            hue="law",
            palette=list(colors),
            corner=True,
            height=1.8 if entries[1:] else 3.0,
        )
        grid.map_lower(seaborn.scatterplot, s=8, alpha=0.35, linewidth=0)
        grid.map_diag(functools.partial(_diagonal, seaborn))
        if entries[1:]:
            grid.add_legend(title="")
        else:
            grid.diag_axes[0].legend(frameon=False)
    return grid


def _diagonal(seaborn: Any, x: Any, **options: Any) -> None:
    whole = bool(np.all(x == np.round(x)))
    options = {"color": options.get("color", DATA), "label": options.get("label")}
    if whole:
        seaborn.histplot(x=x, discrete=True, stat="probability", alpha=0.5, **options)
    else:
        seaborn.kdeplot(x=x, fill=True, alpha=0.3, warn_singular=False, **options)
