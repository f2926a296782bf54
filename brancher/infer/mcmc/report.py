"""A run in a few numbers, and in one sentence where something is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from brancher.infer import diagnostics

_ENOUGH = 100  # draws a chain below which R-hat and E-BFMI are too noisy to warn about


@dataclass(frozen=True)
class Report:
    """Diagnostics of a run.

    Attributes:
        draws: draws a chain.
        n_eff: bulk effective sample size by site.
        r_hat: rank-normalised split R-hat by site.
        divergences: rows of divergent draws, by chain.
        acceptance_rate: mean by chain.
        saturated: share of draws whose tree reached the greatest depth, by chain.
        e_bfmi: by chain.
    """

    draws: int
    n_eff: dict[str, Tensor]
    r_hat: dict[str, Tensor]
    divergences: list[list[int]]
    acceptance_rate: list[float]
    saturated: list[float]
    e_bfmi: list[float]

    @classmethod
    def of(cls, samples: Mapping[str, Tensor], stats: Mapping[str, Tensor], sites: Sequence[str]) -> Report:
        """Compute them from grouped draws and statistics."""
        samples = {name: samples[name].cpu() for name in sites}
        stats = {name: value.cpu() for name, value in stats.items()}
        energy = stats["energy"]
        chains, draws = energy.shape
        if draws >= 4:
            n_eff = {name: diagnostics.ess_bulk(samples[name]) for name in sites}
            r_hat = {name: diagnostics.r_hat(samples[name]) for name in sites}
        else:
            n_eff = r_hat = {}
        saturated = stats.get("reached_max_treedepth", torch.zeros_like(energy)).double()
        return cls(
            draws,
            n_eff,
            r_hat,
            [row.nonzero()[:, 0].tolist() for row in stats["diverging"]],
            stats["acceptance_rate"].double().mean(1).tolist(),
            saturated.mean(1).tolist(),
            diagnostics.bfmi(energy).tolist() if draws > 2 else [float("nan")] * chains,
        )

    @property
    def worst_r_hat(self) -> tuple[str, float]:
        """The site with the largest R-hat, and that."""
        return _extreme(self.r_hat, largest=True)

    @property
    def least_n_eff(self) -> tuple[str, float]:
        """The site with the smallest effective sample size, and that."""
        return _extreme(self.n_eff, largest=False)

    def to_dict(self) -> dict[str, Any]:
        """By name, in the layout that Pyro users know."""
        found: dict[str, Any] = {
            name: {"n_eff": self.n_eff[name], "r_hat": self.r_hat[name]} for name in self.n_eff
        }
        return found | {
            "divergences": _by_chain(self.divergences),
            "acceptance rate": _by_chain(self.acceptance_rate),
            "tree depth saturation": _by_chain(self.saturated),
            "e_bfmi": _by_chain(self.e_bfmi),
        }

    def __str__(self) -> str:
        diverged = sum(len(rows) for rows in self.divergences)
        mean = sum(self.acceptance_rate) / len(self.acceptance_rate)
        return (
            f"{len(self.divergences)} chains x {self.draws} draws: {diverged} divergences, acceptance rate "
            f"{mean:.2f}, {100 * max(self.saturated):.1f}% of trees at full depth, least E-BFMI "
            f"{min(self.e_bfmi):.2f}"
        )


def what_is_wrong(report: Report) -> str | None:
    """One warning that says what is wrong and what to do, or None."""
    found = []
    diverged = sum(len(rows) for rows in report.divergences)
    if diverged:
        found.append(f"{diverged} divergent draws (raise target_accept_prob, or reparametrise)")
    if max(report.saturated) > 0.01:
        found.append(
            f"{100 * max(report.saturated):.0f}% of trees at max_tree_depth (raise it, rescale, or use "
            "full_mass=True)"
        )
    if report.draws >= _ENOUGH:
        name, value = report.worst_r_hat
        if value > 1.05:
            found.append(f"R-hat {value:.2f} at site '{name}' (run longer, or look for several modes)")
        low = min(report.e_bfmi)
        if low < 0.2:
            found.append(f"E-BFMI {low:.2f} (heavy tails: reparametrise)")
    if not found:
        return None
    return f"MCMC: expected a run without trouble, got {'; '.join(found)}."


def _extreme(values: Mapping[str, Tensor], largest: bool) -> tuple[str, float]:
    name, best = "", float("-inf") if largest else float("inf")
    for site, value in values.items():
        finite = value[torch.isfinite(value)]
        if finite.numel() == 0:
            continue
        now = float(finite.max() if largest else finite.min())
        if (now > best) if largest else (now < best):
            name, best = site, now
    return name, best


def _by_chain(values: Sequence[Any]) -> dict[str, Any]:
    return {f"chain {number}": value for number, value in enumerate(values)}
