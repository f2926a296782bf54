"""Tables of draws as plain dicts, under Pyro's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from brancher.infer import RandomWalk
from brancher.infer.diagnostics import effective_sample_size, hpdi, split_gelman_rubin

__all__ = ["RandomWalkKernel", "diagnostics", "print_summary", "select_samples", "summary"]


def RandomWalkKernel(
    model: Callable[..., Any], init_step_size: float = 0.1, target_accept_prob: float = 0.234
) -> RandomWalk:
    """Make a :class:`~brancher.infer.RandomWalk`.

    Args:
        model: the model.
        init_step_size: first scale of the proposal.
        target_accept_prob: 0.234 in many dimensions, 0.44 in one.
    """
    return RandomWalk(model, init_step_size, target_accept_prob)


def summary(
    samples: Mapping[str, Tensor], prob: float = 0.9, group_by_chain: bool = True
) -> dict[str, dict[str, Tensor]]:
    """Mean, sd, median, highest-density interval, ess and r_hat, by site.

    ``brancher.summary`` gives a table of the same.

    Args:
        samples: draws by site, shape ``(chains, draws, *site)``.
        prob: mass of the interval.
        group_by_chain: False where the dimension of chains is not there.

    Example:
        >>> from brancher.infer.mcmc.util import summary
        >>> list(summary({"x": torch.randn(2, 50)})["x"])
        ['mean', 'std', 'median', '5.0%', '95.0%', 'n_eff', 'r_hat']
    """
    low, high = f"{50 * (1 - prob):.1f}%", f"{50 * (1 + prob):.1f}%"
    table = {}
    for name, value in samples.items():
        chains = value if group_by_chain else value[None]
        flat = chains.flatten(0, 1)
        interval = hpdi(flat, prob)
        table[name] = {
            "mean": flat.mean(0),
            "std": flat.std(0),
            "median": flat.median(0).values,
            low: interval[0],
            high: interval[1],
            **diagnostics({name: chains})[name],
        }
    return table


def diagnostics(samples: Mapping[str, Tensor], group_by_chain: bool = True) -> dict[str, dict[str, Tensor]]:
    """Effective sample size and split r_hat, by site.

    Args:
        samples: draws by site, shape ``(chains, draws, *site)``.
        group_by_chain: False where the dimension of chains is not there.
    """
    table = {}
    for name, value in samples.items():
        chains = value if group_by_chain else value[None]
        table[name] = {"n_eff": effective_sample_size(chains), "r_hat": split_gelman_rubin(chains)}
    return table


def print_summary(samples: Mapping[str, Tensor], prob: float = 0.9, group_by_chain: bool = True) -> None:
    """Print :func:`summary`, one row an entry."""
    rows: list[str] = []
    for name, columns in summary(samples, prob, group_by_chain).items():
        if not rows:
            rows.append("".join(f"{title:>10}" for title in ["", *columns]))
        for entry in range(columns["mean"].numel()):
            label = name if columns["mean"].dim() == 0 else f"{name}[{entry}]"
            numbers = (float(column.reshape(-1)[entry]) for column in columns.values())
            rows.append(f"{label:>10}" + "".join(f"{number:>10.2f}" for number in numbers))
    print("\n".join(rows))  # noqa: T201 - printing is what it is for


def select_samples(
    samples: Any, num_samples: int | None = None, group_by_chain: bool = False
) -> dict[str, Tensor]:
    """All draws, or a number of them drawn with replacement.

    Args:
        samples: draws by site, shape ``(chains, draws, *site)``.
        num_samples: how many; all for None.
        group_by_chain: keep the dimension of chains.
    """
    if num_samples is None:
        return {k: v if group_by_chain else v.flatten(0, 1) for k, v in samples.items()}
    draws = {name: value.flatten(0, 1) for name, value in samples.items()}
    chosen = torch.randint(len(next(iter(draws.values()))), (num_samples,))
    return {name: value[chosen.to(value.device)] for name, value in draws.items()}
