"""Pictures of training."""

from __future__ import annotations

from typing import Any

import numpy as np

from brancher.errors import InferenceError
from brancher.plots.style import INK, new_axes, styled


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
    with styled() as seaborn:
        ax = new_axes(1, 1, 6.0, 3.2)[1][0, 0] if ax is None else ax
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
