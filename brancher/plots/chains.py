"""Pictures of chains: traces, ranks, energies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from brancher.errors import InferenceError
from brancher.frames import draws_frame, pick
from brancher.infer.diagnostics import bfmi
from brancher.plots.style import DATA, INK, Draws, new_axes, styled


def plot_trace(samples: Draws, names: Sequence[str] | str | None = None) -> Any:
    """Density and course of every entry, one line a chain.

    Args:
        samples: draws grouped by chain, as ``mcmc.get_samples(group_by_chain=True)`` gives them.
        names: the sites to show, all for None; at most 16 entries.

    Returns:
        An array of axes, one row an entry: density, course.

    Raises:
        InferenceError: the draws are not grouped, there are too many entries, or no draws.
        MissingExtraError: seaborn is not installed.
    """
    entries = _entries(samples, names, 16)
    with styled() as seaborn:
        figure, axes = new_axes(len(entries), 2, 4.0, 1.6)
        for row, (label, chains) in zip(axes, entries.items(), strict=True):
            colors = seaborn.color_palette("crest", len(chains))
            for draws, color in zip(chains, colors, strict=True):
                seaborn.kdeplot(x=draws, color=color, linewidth=1, warn_singular=False, cut=0, ax=row[0])
                row[1].plot(draws, color=color, linewidth=0.5, alpha=0.8)
            row[0].set(title=label, ylabel="", yticks=[])
            row[1].set(title=label)
        axes[-1][1].set(xlabel="draw")
        seaborn.despine(fig=figure)
    return axes


def plot_rank(samples: Draws, names: Sequence[str] | str | None = None, bins: int = 20) -> Any:
    """Histograms of ranks over all chains; chains that sample the same law have flat ones.

    Vehtari et al. 2021, Bayesian Analysis 16(2), section 5.

    Args:
        samples: draws grouped by chain.
        names: the sites to show, all for None; at most 16 entries.
        bins: bars a chain.

    Returns:
        An array of axes, one row an entry, one column a chain.

    Raises:
        InferenceError: the draws are not grouped, there are too many entries or chains, or no draws.
        MissingExtraError: seaborn is not installed.
    """
    entries = _entries(samples, names, 16)
    count = len(next(iter(entries.values())))
    if count > 8:
        raise InferenceError(f"plot_rank: expected at most 8 chains in one picture, got {count}; show some")
    with styled() as seaborn:
        figure, axes = new_axes(len(entries), count, 2.2, 1.5)
        for row, (label, chains) in zip(axes, entries.items(), strict=True):
            ranks = chains.ravel().argsort(kind="stable").argsort(kind="stable").reshape(chains.shape)
            edges = np.linspace(-0.5, chains.size - 0.5, bins + 1)
            for number, ax in enumerate(row):
                ax.hist(ranks[number], edges, color=INK, alpha=0.7)
                ax.axhline(chains.shape[1] / bins, color=DATA, linewidth=1, linestyle=":")
                ax.set(title=f"{label}, chain {number}", yticks=[])
        for ax in axes[-1]:
            ax.set(xlabel="rank")
        seaborn.despine(fig=figure, left=True)
    return axes


def plot_energy(stats: Mapping[str, Any], ax: Any = None) -> Any:
    """Energies beside their changes from draw to draw; E-BFMI says how much narrower the changes are.

    Betancourt 2017, arXiv:1701.02434, section 6.1.

    Args:
        stats: ``mcmc.stats``: energies of shape ``(chains, draws)``.
        ax: matplotlib axes to draw into; new ones for None.

    Returns:
        The axes.

    Raises:
        InferenceError: there are fewer than three draws.
        MissingExtraError: seaborn is not installed.
    """
    energy = torch.as_tensor(stats["energy"]).detach().cpu().double()
    if energy.dim() != 2 or energy.shape[1] < 3:
        raise InferenceError(
            f"plot_energy: expected energies of (chains, draws >= 3), got {tuple(energy.shape)}; "
            "give mcmc.stats"
        )
    with styled() as seaborn:
        ax = new_axes(1, 1, 5.0, 3.0)[1][0, 0] if ax is None else ax
        centred = (energy - energy.mean()).flatten().numpy()
        changes = energy.diff(dim=1).flatten().numpy()
        seaborn.kdeplot(x=centred, fill=True, color=INK, alpha=0.3, label="energy, centred", ax=ax)
        seaborn.kdeplot(x=changes, color=DATA, label="change from draw to draw", ax=ax)
        values = ", ".join(f"{value:.2f}" for value in bfmi(energy)[:8].tolist())
        ax.set(xlabel=f"nats;  E-BFMI {values}", ylabel="", yticks=[])
        ax.legend(frameon=False)
        seaborn.despine(ax=ax, left=True)
    return ax


def _entries(samples: Draws, names: Sequence[str] | str | None, limit: int) -> dict[str, Any]:
    """Draws of every entry, ``(chains, draws)`` each, by label."""
    if getattr(samples, "batch_ndims", 1) != 2:
        raise InferenceError(
            "plot: expected draws grouped by chain, got them in one row; give "
            "mcmc.get_samples(group_by_chain=True)"
        )
    values = {name: torch.as_tensor(value) for name, value in pick(samples, names).items()}
    dims, coords = getattr(samples, "dims", None), getattr(samples, "coords", None)
    table = draws_frame(values, ("chain", "draw"), dims, coords)
    if table.empty:
        raise InferenceError("plot: expected draws, got none")
    if table.shape[1] > limit:
        raise InferenceError(
            f"plot: expected at most {limit} entries in one picture, got {table.shape[1]}; choose some with "
            "names="
        )
    chains = next(iter(values.values())).shape[0]
    return {str(label): table[label].to_numpy(dtype=float).reshape(chains, -1) for label in table}
