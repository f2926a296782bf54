"""The parameter of two-valued laws, given as a probability or as log-odds."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions.utils import lazy_property
from torch.nn.functional import logsigmoid

from brancher.distributions.parameters import one_of, promote
from brancher.distributions.special import log_binomial_kernel, xlog1py, xlogy


class Odds:
    """Holds ``probs`` or ``logits``, whichever was given, and derives the other without clamping.

    Probabilities of 0 and 1 are kept exactly, so their log-odds are infinite.
    """

    def _take(self, probs: Any, logits: Any, **others: Any) -> tuple[torch.Tensor, ...]:
        """Store the given parameter, and return the others broadcast with it."""
        given = one_of(self, probs=probs, logits=logits)
        *rest, value = promote(self, **others, **{given: probs if given == "probs" else logits})
        self.__dict__[given] = value
        self._is_logits = given == "logits"
        return tuple(rest)

    @lazy_property
    def logits(self) -> torch.Tensor:
        """Log-odds of success."""
        return torch.logit(self.probs)

    @lazy_property
    def probs(self) -> torch.Tensor:
        """Probability of success."""
        return torch.sigmoid(self.logits)

    @property
    def _param(self) -> torch.Tensor:
        return self.logits if self._is_logits else self.probs

    @property
    def param_shape(self) -> torch.Size:
        """Shape of the given parameter."""
        return self._param.shape

    def _failure_probs(self) -> torch.Tensor:
        return torch.sigmoid(-self.logits) if self._is_logits else 1.0 - self.probs

    def _log_success(self, weight: torch.Tensor) -> torch.Tensor:
        """Return ``weight * log(probs)``, 0 for weight 0."""
        return weighed(weight, logsigmoid(self.logits)) if self._is_logits else xlogy(weight, self.probs)

    def _log_failure(self, weight: torch.Tensor) -> torch.Tensor:
        """Return ``weight * log(1 - probs)``, 0 for weight 0."""
        if self._is_logits:
            return weighed(weight, logsigmoid(-self.logits))
        return xlog1py(weight, -self.probs)

    def _log_of_counts(self, successes: torch.Tensor, failures: torch.Tensor) -> torch.Tensor:
        """Return the binomial log-probability of two counts of one shape."""
        # Pairs stand in front: a loop over the last dimension, which may be long, is the fast one.
        padding = (1,) * (successes.dim() - self._param.dim())
        shape = (2, *padding, *self._param.shape)
        probs = torch.stack([self.probs, self._failure_probs()]).reshape(shape)
        logs = None  # needed where log-odds keep what probabilities would lose
        if self._is_logits:
            logs = torch.stack([logsigmoid(self.logits), logsigmoid(-self.logits)]).reshape(shape)
        return log_binomial_kernel(torch.stack([successes, failures]), probs, logs, dim=0)


def weighed(weight: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
    """Multiply by a weight; weight 0 gives 0 for infinities too."""
    is_nothing = torch.isinf(log_probs) & (weight == 0)
    return torch.where(is_nothing, 0.0, weight * log_probs)
