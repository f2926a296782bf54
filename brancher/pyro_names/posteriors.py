"""``TracePosterior``: an inference algorithm of a program's own, as weighted traces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from brancher.errors import InferenceError
from brancher.handlers import Trace, block

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TracePosterior"]


class TracePosterior(ABC):
    """An algorithm that gives traces with log-weights, such as a search through a discrete program.

    A subclass writes ``_traces``, an iterator over pairs of a trace and its log-weight. The result goes to
    :class:`~brancher.infer.EmpiricalMarginal`.

    Args:
        num_chains: 1; there for programs that pass it.

    Attributes:
        exec_traces: the traces, after :meth:`run`.
        log_weights: their log-weights in nats, not normalised.

    Raises:
        InferenceError: more than one chain is asked for.

    Example:
        >>> from queue import Queue
        >>> from brancher.infer import EmpiricalMarginal
        >>> from brancher.infer.abstract_infer import TracePosterior
        >>> class Search(TracePosterior):
        ...     def _traces(self):
        ...         todo = Queue()
        ...         todo.put(handlers.Trace())
        ...         run = handlers.trace(handlers.queue(coins, queue=todo))
        ...         while not todo.empty():
        ...             record = run.get_trace()
        ...             yield record, record.log_prob_sum()
        >>> coins = lambda: sample("a", dist.Bernoulli(0.5)) + sample("b", dist.Bernoulli(0.5))
        >>> EmpiricalMarginal(Search().run()).log_prob(torch.tensor(1.0)).exp()
        tensor(0.5000)
    """

    def __init__(self, num_chains: int = 1) -> None:
        if num_chains != 1:
            raise InferenceError(
                f"{type(self).__name__}: expected num_chains=1, got {num_chains!r}; leave it out"
            )
        self.num_chains = num_chains
        self._reset()

    def _reset(self) -> None:
        self.exec_traces: list[Trace] = []
        self.log_weights: list[float | torch.Tensor] = []

    @abstractmethod
    def _traces(self, *args: Any, **kwargs: Any) -> Iterator[tuple[Trace, float | torch.Tensor]]:
        """Give traces with their log-weights."""

    def run(self, *args: Any, **kwargs: Any) -> Self:
        """Collect the traces, hidden from the handlers around, so that a model may infer; returns itself."""
        self._reset()
        with block():
            for record, log_weight in self._traces(*args, **kwargs):
                self.exec_traces.append(record)
                self.log_weights.append(log_weight)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Trace:
        """Run, and draw one trace by its weight.

        Raises:
            InferenceError: there is no trace of finite weight.
        """
        self.run(*args, **kwargs)
        weights = torch.tensor([float(log_weight) for log_weight in self.log_weights])
        if not bool(torch.isfinite(weights).any()):
            raise InferenceError(
                f"{type(self).__name__}: expected a trace of finite weight, got {len(weights)} without one; "
                "look at what _traces gives"
            )
        return self.exec_traces[int(torch.multinomial(weights.softmax(0), 1))].copy()
