"""Score-function gradients: Rao-Blackwellised over plates, with baselines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from brancher.distributions.shapes import broadcast_shapes
from brancher.errors import InferenceError
from brancher.handlers import Message
from brancher.handlers.density import score

_OPTIONS = {
    "baseline_beta",
    "baseline_value",
    "nn_baseline",
    "nn_baseline_input",
    "use_decaying_avg_baseline",
}


class Baselines:
    """Decaying averages of the learning signal, one number a site.

    A site may choose its own by ``infer={"baseline": {...}}`` with ``use_decaying_avg_baseline`` and
    ``baseline_beta``; or with ``nn_baseline``, a network, and ``nn_baseline_input``, or with
    ``baseline_value``, a tensor that broadcasts with the signal. Parameters behind these two learn to
    predict the signal (Mnih & Gregor 2014, arXiv:1402.0030, section 2.3).

    Args:
        decay: weight of the past, in [0, 1); None for no baselines unless a site asks.
    """

    def __init__(self, decay: float | None) -> None:
        if decay is not None and not 0.0 <= decay < 1.0:
            raise InferenceError(
                f"baseline_decay: expected a number in [0, 1) or None, got {decay}; 0.9 is usual"
            )
        self.decay = decay
        self.averages: dict[str, torch.Tensor] = {}

    def of(self, site: Message, signal: torch.Tensor) -> Any:
        """The baseline for a site now; its average then takes in the new signal."""
        options = site.infer.get("baseline") or {}
        if unknown := sorted(set(options) - _OPTIONS):
            raise InferenceError(
                f"site '{site.name}': expected baseline options of {sorted(_OPTIONS)}, got {unknown}"
            )
        learned: Any = options.get("baseline_value", 0.0)
        if "nn_baseline" in options:
            learned = learned + options["nn_baseline"](options["nn_baseline_input"].detach())
        return learned + self._average(site, options, signal)

    def _average(self, site: Message, options: dict[str, Any], signal: torch.Tensor) -> Any:
        decay = None if "baseline_value" in options or "nn_baseline" in options else self.decay
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
    that rows of a plate do not carry each other's noise. A learned baseline adds its squared error.

    Raises:
        InferenceError: a baseline has unknown options, or another shape than the signal.
    """
    plates = {frame.name for frame in site.frames}
    signal: Any = 0.0
    for sign, sites in ((1.0, model_sites), (-1.0, guide_sites)):
        for other in sites:
            outside = [f.dim for f in other.frames if f.dim is not None and f.name not in plates]
            signal = signal + sign * _sum_over(score(other).detach(), outside)
    log_q = _own_log_prob(site)
    baseline = baselines.of(site, signal)
    is_learned = isinstance(baseline, torch.Tensor) and baseline.requires_grad
    if isinstance(baseline, torch.Tensor):
        _check_baseline(site, baseline, signal)
    error = (signal - baseline).square().sum() if is_learned else 0.0
    term: torch.Tensor = (log_q * (signal - (baseline.detach() if is_learned else baseline))).sum()
    return term - error


def _check_baseline(site: Message, baseline: torch.Tensor, signal: torch.Tensor) -> None:
    expected = torch.as_tensor(signal).shape
    try:
        fits = broadcast_shapes(baseline.shape, expected) == expected
    except RuntimeError:
        fits = False
    if not fits:
        raise InferenceError(
            f"site '{site.name}': expected a baseline of shape {tuple(expected)}, one number for each row, "
            f"got {tuple(baseline.shape)}; reshape it"
        )


def _sum_over(tensor: torch.Tensor, dims: list[int]) -> torch.Tensor:
    present = [d for d in dims if -d <= tensor.dim()]
    return tensor.sum(present, keepdim=True) if present else tensor


def _own_log_prob(site: Message) -> torch.Tensor:
    # The sampling density itself: masked, but not scaled.
    score(site)
    log_prob: torch.Tensor = site.unscaled_log_prob  # type: ignore[assignment]
    return log_prob
