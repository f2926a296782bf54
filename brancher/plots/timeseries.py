"""Pictures of series: a band, its middle, and the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from brancher.errors import InferenceError
from brancher.plots.style import DATA, INK, new_axes, styled


def plot_timeseries(
    samples: Any,
    data: Any = None,
    prob: float = 0.9,
    max_lines: int = 0,
    label: str = "median",
    color: str = INK,
    ax: Any = None,
) -> Any:
    """Draws of a series as a band around their median; or a predicted mean with its band.

    Args:
        samples: one row a time, one column a draw, as ``get_posterior_timeseries_sample`` gives them; or the
            table of ``GaussianProcess.predict``, whose band is shown as it is.
        data: a Series of measurements to show as points; gaps are left out.
        prob: how much the band holds, within (0, 1).
        max_lines: draws to show as lines.
        label: of the middle.
        color: of band and lines.
        ax: matplotlib axes to draw into; new ones for None.

    Returns:
        The axes.

    Raises:
        InferenceError: cells are arrays, or ``prob`` is out of range.
        MissingExtraError: seaborn is not installed.
    """
    if not 0.0 < prob < 1.0:
        raise InferenceError(f"plot_timeseries: expected prob within (0, 1), got {prob!r}")
    low, middle, high, share = _band(samples, prob)
    with styled() as seaborn:
        ax = new_axes(1, 1, 7.0, 3.4)[1][0, 0] if ax is None else ax
        band = f"{100 * share:g} % band"
        ax.fill_between(samples.index, low, high, color=color, alpha=0.25, linewidth=0, label=band)
        ax.plot(samples.index, middle, color=color, linewidth=1.5, label=label)
        if max_lines and not _is_prediction(samples):
            chosen = np.unique(np.linspace(0, samples.shape[1] - 1, max_lines).round().astype(int))
            for column in chosen:
                ax.plot(samples.index, samples.iloc[:, column], color=color, alpha=0.4, linewidth=0.6)
        if data is not None:
            ax.plot(data.index, data, ".", color=DATA, markersize=5, label="data")
        ax.set_xlabel(samples.index.name or "")
        ax.legend(frameon=False)
        seaborn.despine(ax=ax)
    return ax


def _is_prediction(samples: Any) -> bool:
    return {"mean", "sd"} <= set(samples.columns)


def _band(samples: Any, prob: float) -> tuple[Any, Any, Any, float]:
    if _is_prediction(samples):
        low, high = [column for column in samples.columns if str(column).endswith("%")]
        return samples[low], samples["mean"], samples[high], (float(high[:-1]) - float(low[:-1])) / 100
    try:
        values = samples.to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise InferenceError(
            "plot_timeseries: expected a number in every cell, got arrays; show one entry of the variables"
        ) from None
    low, middle, high = np.quantile(values, [0.5 - prob / 2, 0.5, 0.5 + prob / 2], axis=1)
    return low, middle, high, prob
