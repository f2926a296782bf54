"""Gradient estimators other than the one that fits a family best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from brancher.distributions import Delta
from brancher.distributions.shapes import broadcast
from brancher.distributions.validation import validation_enabled
from brancher.errors import InferenceError
from brancher.handlers import Message, Messenger, Trace, replay, substitute, trace
from brancher.handlers.density import score
from brancher.infer.particles import particle_plate
from brancher.symbolic.wrapped import WrappedLaw

#: Names of the estimators, as they were called in Brancher 0.3.
PathwiseDerivativeEstimator = "pathwise"
BlackBoxEstimator = "score"
Taylor1Estimator = "taylor"
ESTIMATORS = (PathwiseDerivativeEstimator, BlackBoxEstimator, Taylor1Estimator)
Fn = Callable[..., Any]


def estimated(guide: Fn, estimator: str | None) -> Fn:
    """A posterior whose draws carry gradients in the chosen way."""
    return _Scored(guide) if estimator == "score" else guide


class _Cut(WrappedLaw):
    """A law whose draws carry no gradient, so that its score function must."""

    has_rsample = False

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


class _AtMeans(Messenger):
    """Every random variable at the mean of its law."""

    def process_message(self, message: Message) -> None:
        if message.type == "sample" and not message.is_observed and message.value is None:
            message.value = _mean_of(message)


def _mean_of(message: Message) -> torch.Tensor:
    """The mean of a site's law.

    Raises:
        InferenceError: it has none in closed form.
    """
    try:
        mean: torch.Tensor = message.fn.mean
    except NotImplementedError:
        law = message.fn
        while hasattr(law, "base_dist"):
            law = law.base_dist
        raise InferenceError(
            f"ReverseKL: expected a law with a known mean for gradient_estimator='taylor', got a transformed "
            f"{type(law).__name__} for variable '{message.name}'; set a posterior of a family with one, or "
            "take 'score' or 'pathwise'"
        ) from None
    return mean


class TaylorLoss:
    """Negative ELBO whose score-function gradient has a first-order expansion as control variate.

    With ``f = log p - log q`` and its expansion ``h`` around the means of the posterior, the gradient of
    ``E f`` is that of ``E h``, known, plus the score function's for ``f - h``, which is small
    (Gu et al. 2016, "MuProp", arXiv:1511.05176, eq. 3). Exact where means are linear in their parents.

    Args:
        count: draws a step, > 0.
        nesting: batch dimensions that plates use.
    """

    def __init__(self, count: int, nesting: int) -> None:
        self.count, self.nesting = count, nesting

    def __call__(self, model: Fn, guide: Fn) -> torch.Tensor:
        """The loss in nats, shape ``()``."""
        with particle_plate(self.count, self.nesting):
            guide_trace = trace(_Scored(guide)).get_trace()
            model_trace = trace(replay(model, trace=guide_trace)).get_trace()
        log_p, log_q = self._each(model_trace), self._each(guide_trace)
        means = {site.name: site.value for site in trace(_AtMeans(guide)).get_trace().sites("sample")}
        center, slopes = self._expansion(model, guide, means)
        steps = [
            ((guide_trace.nodes[name].value - means[name]) * slope).detach().reshape(self.count, -1).sum(1)
            for name, slope in slopes.items()
        ]
        signal = (log_p - log_q).detach() - center - torch.stack(steps).sum(0)
        known = torch.stack([(means[name] * slope).sum() for name, slope in slopes.items()]).sum()
        surrogate = -((signal * log_q).mean() + known + log_p.mean())
        return surrogate + ((log_q - log_p).mean() - surrogate).detach()

    def _each(self, record: Trace) -> torch.Tensor:
        """Log-density of every draw, shape (count,)."""
        shape = (self.count,) + (1,) * self.nesting
        terms = [
            score(s).expand(broadcast(s.name, score(s).shape, shape)).reshape(self.count, -1).sum(1)
            for s in record.scored()
        ]
        return torch.stack(terms).sum(0)

    def _expansion(
        self, model: Fn, guide: Fn, means: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Value and slopes of ``log p - log q`` at the means."""
        points = {name: value.detach().requires_grad_() for name, value in means.items()}

        def answer(message: Message) -> torch.Tensor | None:
            return points.get(message.name) if message.type == "sample" and not message.is_observed else None

        # A mean need not be a value that a variable can have: half a success.
        with validation_enabled(False), substitute(substitute_fn=answer):
            difference = trace(model).get_trace().log_prob_sum() - trace(guide).get_trace().log_prob_sum()
        slopes = torch.autograd.grad(difference, list(points.values()), allow_unused=True)
        found = {
            n: torch.zeros_like(points[n]) if s is None else s for n, s in zip(points, slopes, strict=True)
        }
        return difference.detach(), found
