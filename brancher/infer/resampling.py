"""``MHResampler``: equally weighed draws out of weighed ones, by Metropolis and Hastings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from brancher.errors import InferenceError
from brancher.infer.samples import Samples
from brancher.infer.weighed_predictive import WeighedPredictiveResults


class MHResampler:
    """Turn weighed draws into equally weighed ones, one step a call.

    Each call proposes new draws for all the old ones, and takes each with probability
    ``min(1, w_new / w_old)``: an independence sampler (Hastings 1970, section 2.5) for every draw. The first
    call gives the sampler's own draws; with further calls their law comes nearer to the weighed one.

    Args:
        sampler: called with the arguments of each call, returns :class:`WeighedPredictiveResults`, as a
            :class:`WeighedPredictive` does.
        source_samples_slice: which of the sampler's results to keep; none by default.
        stored_samples_slice: which of this resampler's results to keep; none by default.

    Attributes:
        samples: the last results; None before the first call.
        transition_count: how often each draw was replaced, shape (num_samples,).

    Example:
        >>> from brancher.infer import MHResampler, WeighedPredictive
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> wide = lambda: sample("x", dist.Normal(0.0, 2.0))
        >>> resampler = MHResampler(WeighedPredictive(model, guide=wide, num_samples=2000))
        >>> for _ in range(20):
        ...     result = resampler()
        >>> bool((result.samples["x"].std() - 1.0).abs() < 0.1)
        True
    """

    def __init__(
        self,
        sampler: Callable[..., WeighedPredictiveResults],
        source_samples_slice: slice = slice(0),
        stored_samples_slice: slice = slice(0),
    ) -> None:
        self.sampler = sampler
        self.source_samples_slice, self.stored_samples_slice = source_samples_slice, stored_samples_slice
        self.samples: WeighedPredictiveResults | None = None
        self.transition_count = torch.tensor(0)
        self.source_samples: list[WeighedPredictiveResults] = []
        self.stored_samples: list[WeighedPredictiveResults] = []

    @torch.no_grad()
    def __call__(self, *args: Any, **kwargs: Any) -> WeighedPredictiveResults:
        """Take one step; arguments are the sampler's.

        Raises:
            InferenceError: the sampler gives another number of draws than before.
        """
        new = self.sampler(*args, **kwargs)
        self.source_samples = [*self.source_samples, new][self.source_samples_slice]
        if self.samples is None:
            self.samples = new
            self.transition_count = torch.zeros_like(new.log_weights, dtype=torch.long)
        else:
            self.samples = self._moved(self.samples, new)
        self.stored_samples = [*self.stored_samples, self.samples][self.stored_samples_slice]
        return self.samples

    def _moved(
        self, old: WeighedPredictiveResults, new: WeighedPredictiveResults
    ) -> WeighedPredictiveResults:
        if len(old.log_weights) != len(new.log_weights):
            raise InferenceError(
                f"MHResampler: expected {len(old.log_weights)} draws as before, got {len(new.log_weights)}; "
                "give the sampler one num_samples"
            )
        is_taken = torch.rand_like(new.log_weights).log() <= new.log_weights - old.log_weights
        self.transition_count = self.transition_count + is_taken.long()
        return _joined([old, new], lambda pair: torch.where(_like(is_taken, pair[1]), pair[1], pair[0]))

    def get_min_sample_transition_count(self) -> torch.Tensor:
        """How often the draw that moved least has moved, shape ()."""
        return self.transition_count.min()

    def get_total_transition_count(self) -> torch.Tensor:
        """How often draws have moved in all, shape ()."""
        return self.transition_count.sum()

    def get_source_samples(self) -> WeighedPredictiveResults:
        """The sampler's results that were kept, one after the other."""
        return self.get_samples(self.source_samples)

    def get_stored_samples(self) -> WeighedPredictiveResults:
        """The resampler's results that were kept, one after the other."""
        return self.get_samples(self.stored_samples)

    def get_samples(self, samples: Sequence[WeighedPredictiveResults]) -> WeighedPredictiveResults:
        """Several results, one after the other.

        Raises:
            InferenceError: there are none.
        """
        if not samples:
            raise InferenceError(
                "MHResampler: expected results that were kept, got none; give "
                "stored_samples_slice=slice(-10, None)"
            )
        return _joined(list(samples), torch.cat)


def _like(is_taken: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return is_taken.reshape(is_taken.shape + (1,) * (value.dim() - is_taken.dim()))


def _joined(
    results: list[WeighedPredictiveResults], join: Callable[[list[torch.Tensor]], torch.Tensor]
) -> WeighedPredictiveResults:
    """Results whose tensors are joined one by one."""
    first: Any = results[0].samples
    samples: Any
    if isinstance(first, Mapping):
        values = {name: join([result.samples[name] for result in results]) for name in first}
        samples = Samples(values, results[0].samples.dims, results[0].samples.coords)
    else:
        samples = tuple(join(list(values)) for values in zip(*(r.samples for r in results), strict=True))
    log_weights, log_q, log_p = (
        join([getattr(result, name) for result in results])
        for name in ("log_weights", "guide_log_prob", "model_log_prob")
    )
    return WeighedPredictiveResults(samples, log_weights, log_q, log_p)
