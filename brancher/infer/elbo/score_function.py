"""Score-function gradients: Rao-Blackwellised over plates, with baselines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from brancher.errors import InferenceError
from brancher.handlers import Message
from brancher.handlers.density import score


class Baselines:
    """Decaying averages of the learning signal, one number a site.

    A site may choose its own by ``infer={"baseline": {...}}`` with ``baseline_value`` (a tensor
    that broadcasts with the signal), or ``use_decaying_avg_baseline`` and ``baseline_beta``.

    Args:
        decay: weight of the past, in [0, 1); None for no baselines unless a site asks.
    """

    def __init__(self, decay: float | None) -> None:
        if decay is not None and not 0.0 <= decay < 1.0:
            raise InferenceError(f"baseline_decay: expected a number in [0, 1) or None, got {decay}")
        self.decay = decay
        self.averages: dict[str, torch.Tensor] = {}

    def of(self, site: Message, signal: torch.Tensor) -> Any:
        """The baseline for a site now; its average then takes in the new signal."""
        options = site.infer.get("baseline") or {}
        if "baseline_value" in options:
            return options["baseline_value"]
        decay = self.decay
        if options.get("use_decaying_avg_baseline"):
            decay = options.get("baseline_beta", 0.9)
        if decay is None:
            return 0.0
        now = signal.detach().mean()
        before = self.averages.get(site.name)
        # The signal of this very draw must not enter its own baseline: that would bias the gradient.
        self.averages[site.name] = now if before is None else decay * before + (1.0 - decay) * now
        return 0.0 if before is None else before


def score_function_term(
    site: Message,
    model_sites: Iterable[Message],
    guide_sites: Iterable[Message],
    baselines: Baselines,
) -> torch.Tensor:
    """Signal times log-density of one guide site, to be added to the ELBO's surrogate; shape ``()``.

    The signal is log p - log q summed over the plates that the site does not stand under, so
    that rows of a plate do not carry each other's noise.
    """
    frames = {frame.dim for frame in site.frames if frame.dim is not None}
    signal: Any = 0.0
    for sign, sites in ((1.0, model_sites), (-1.0, guide_sites)):
        for other in sites:
            outside = [f.dim for f in other.frames if f.dim is not None and f.dim not in frames]
            signal = signal + sign * _sum_over(score(other).detach(), outside)
    log_q = _own_log_prob(site)
    baseline = baselines.of(site, signal)
    term: torch.Tensor = (log_q * (signal - baseline)).sum()
    return term


def _sum_over(tensor: torch.Tensor, dims: list[int]) -> torch.Tensor:
    present = [d for d in dims if -d <= tensor.dim()]
    return tensor.sum(present, keepdim=True) if present else tensor


def _own_log_prob(site: Message) -> torch.Tensor:
    # The sampling density itself: masked, but not scaled.
    score(site)
    log_prob: torch.Tensor = site.unscaled_log_prob  # type: ignore[assignment]
    return log_prob
