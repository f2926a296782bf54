"""Gradient estimators other than the one that fits a family best, as handlers around a posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from brancher.distributions import Delta, Distribution
from brancher.handlers import Message, Messenger

ESTIMATORS = ("pathwise", "score", "taylor")


def estimated(guide: Callable[..., Any], estimator: str | None) -> Callable[..., Any]:
    """A posterior whose draws carry gradients in the chosen way."""
    if estimator is None or estimator == "pathwise":
        return guide
    return (_Scored if estimator == "score" else _Linear)(guide)


class _Cut(Distribution):
    """A law whose draws carry no gradient, so that its score function must."""

    has_rsample = False
    arg_constraints: dict[str, Any] = {}

    def __init__(self, law: Any) -> None:
        self.law = law
        super().__init__(law.batch_shape, law.event_shape, validate_args=False)

    @property
    def support(self) -> Any:  # type: ignore[override]
        return self.law.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> _Cut:
        return _Cut(self.law.expand(batch_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> torch.Tensor:  # noqa: B008
        with torch.no_grad():
            drawn: torch.Tensor = self.law.sample(sample_shape)
            return drawn

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        density: torch.Tensor = self.law.log_prob(value)
        return density


class _Scored(Messenger):
    """Score-function gradients for every random variable (Ranganath et al. 2014, arXiv:1401.0118)."""

    def process_message(self, message: Message) -> None:
        if message.type == "sample" and not message.is_observed and not isinstance(message.fn, Delta):
            message.fn = _Cut(message.fn)


class _Linear(Messenger):
    """Every variable at its mean: the log-joint replaced by its first-order expansion there.

    Under the posterior the linear term has mean zero. The posterior's own density keeps a draw's
    value, so that its entropy stays.
    """

    def process_message(self, message: Message) -> None:
        if message.type == "sample" and not message.is_observed and message.fn.has_rsample:
            law = message.fn
            if isinstance(law, Delta):
                return
            mean = law.mean
            rank = len(law.event_shape)
            # The density at a draw, reported for the mean: E log q is the negative entropy.
            message.fn = Delta(mean, law.log_prob(law.rsample()), event_dim=rank)
