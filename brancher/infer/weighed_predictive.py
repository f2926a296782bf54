"""``WeighedPredictive``: predictions of a guide's draws, with what they count under another model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from brancher.errors import InferenceError
from brancher.handlers import Trace, block
from brancher.infer.importance import Importance
from brancher.infer.pairing import paired_traces
from brancher.infer.particles import probing
from brancher.infer.predictive import Predictive
from brancher.infer.samples import Samples

Fn = Callable[..., Any]


@dataclass(frozen=True)
class WeighedPredictiveResults:
    """Predictions and their weights.

    Attributes:
        samples: draws by site, shape (num_samples, *site).
        log_weights: log p - log q of each draw in nats, shape (num_samples,); not normalised.
        guide_log_prob: log q, the guide's log-density, shape (num_samples,).
        model_log_prob: log p, the log-density of the model that the guide is for, shape (num_samples,).
    """

    samples: Samples
    log_weights: torch.Tensor
    guide_log_prob: torch.Tensor
    model_log_prob: torch.Tensor

    def get_log_normalizer(self) -> torch.Tensor:
        """Estimate of the log-evidence of that model in nats, shape ()."""
        return self.log_weights.logsumexp(0) - math.log(len(self.log_weights))

    def get_normalized_weights(self, log_scale: bool = False) -> torch.Tensor:
        """The weights with sum 1, or their logarithms, shape (num_samples,)."""
        return self.log_weights.log_softmax(0) if log_scale else self.log_weights.softmax(0)

    def get_ESS(self) -> torch.Tensor:
        """Effective number of draws, (sum w)^2 / sum w^2, shape ()."""
        return 1.0 / self.get_normalized_weights().square().sum()


class WeighedPredictive:
    """Predict with draws of a guide, and weigh them by the model that the guide was fitted to.

    A guide of a model with data is not quite its posterior. Its draws with weights ``p(x, z) / q(z)`` are, so
    predictions with these weights have the quantiles and means of the posterior predictive law:
    see :func:`brancher.ops.stats.weighed_quantile`.

    Args:
        model: the model that predicts.
        posterior_samples: as Pyro has it; leave it out.
        guide: draws the latent sites.
        num_samples: how many draws, > 0.
        return_sites: the sites to return, ``"_RETURN"`` for the model's return value; all for ``()`` or None.
        parallel: as for :class:`Predictive`.
        batch_size: how many draws to run in one batch; None for all.

    Raises:
        InferenceError: there is no guide, or the number of draws is not positive.

    Example:
        >>> from brancher.infer import WeighedPredictive
        >>> from brancher.ops.stats import weighed_quantile
        >>> def model(y=None):
        ...     x = sample("x", dist.Normal(0.0, 1.0))
        ...     return sample("y", dist.Normal(x, 1.0), obs=y)
        >>> guide = lambda *args: sample("x", dist.Normal(0.5, 1.0))
        >>> predictive = WeighedPredictive(model, guide=guide, num_samples=2000)
        >>> data = {"y": torch.tensor(2.0)}
        >>> result = predictive(model_guide=handlers.condition(model, data))
        >>> median = weighed_quantile(result.samples["y"], [0.5], result.log_weights)
        >>> bool((median - 1.0).abs() < 0.2)
        True
    """

    def __init__(
        self,
        model: Fn,
        posterior_samples: Mapping[str, Any] | None = None,
        guide: Fn | None = None,
        num_samples: int | None = None,
        return_sites: Iterable[str] | None = (),
        parallel: bool | None = None,
        *,
        batch_size: int | None = None,
    ) -> None:
        if guide is None:
            raise InferenceError(
                "WeighedPredictive: expected a guide, whose draws are weighed, got none; give guide=, or use "
                "Predictive for draws without weights"
            )
        # Checks the arguments, and gives the option its usual form.
        checked = Predictive(model, posterior_samples, guide, num_samples, return_sites, parallel)
        self.model, self.guide, self.num_samples = model, guide, checked.num_samples
        self.return_sites = checked.return_sites or None
        self.parallel, self.batch_size = parallel, batch_size

    def __call__(self, *args: Any, model_guide: Fn | None = None, **kwargs: Any) -> WeighedPredictiveResults:
        """Draw, weigh and predict.

        Args:
            *args: for models and guide.
            model_guide: the model that the guide was fitted to, with its data; None for the model itself,
                without the sites that it adds to the guide's where it has no data.
            **kwargs: for models and guide.

        Raises:
            GuideError: guide and ``model_guide`` differ in their latent sites.
            InferenceError: a weight is NaN or +inf, or all are zero.
        """
        fitted = self._fitted(args, kwargs) if model_guide is None else model_guide
        found = Importance(
            fitted, self.guide, self.num_samples, parallel=self.parallel, batch_size=self.batch_size
        ).run(*args, **kwargs)
        predict = Predictive(
            self.model,
            {name: found.samples[name] for name in found.latent_names},
            return_sites=self.return_sites,
            parallel=self.parallel,
            batch_size=self.batch_size,
        )
        return WeighedPredictiveResults(
            predict(*args, **kwargs), found.log_weights, found.guide_log_prob, found.model_log_prob
        )

    def _fitted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Fn:
        with probing():
            model_trace, guide_trace = paired_traces(self.model, self.guide, args, kwargs)
        extra = [name for name in model_trace.stochastic_nodes if name not in guide_trace]
        return self.model if model_trace.observation_nodes else block(self.model, hide=extra)

    get_samples = __call__

    def get_vectorized_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Run guide and model once for all draws; see :meth:`Predictive.get_vectorized_trace`."""
        predict = Predictive(
            self.model, guide=self.guide, num_samples=self.num_samples, parallel=self.parallel
        )
        return predict.get_vectorized_trace(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> WeighedPredictiveResults:
        """The same with the values of ``samples`` alone, as a tuple in the order of their names."""
        result = self(*args, **kwargs)
        values: Any = tuple(result.samples[name] for name in sorted(result.samples))
        return WeighedPredictiveResults(
            values, result.log_weights, result.guide_log_prob, result.model_log_prob
        )
