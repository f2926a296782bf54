"""Laws over K categories: Categorical, OneHotCategorical, its straight-through form, Multinomial."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions.base import Distribution
from brancher.distributions.counts import Binomial
from brancher.distributions.parameters import SCALAR, expand_parameters, one_of, to_tensors
from brancher.distributions.shapes import Size
from brancher.distributions.special import log_binomial_kernel, xlogy
from brancher.distributions.validation import is_validating
from brancher.errors import DistributionError, DistributionTypeError


class Categorical(td.Categorical, Distribution):
    """An index from 0 to K - 1.

    Args:
        probs: weights of the categories, normalised here, shape B + (K,); >= 0; or
        logits: log-weights, normalised here.

    Example:
        >>> Categorical(torch.tensor([0.0, 1.0])).log_prob(torch.tensor([0, 1]))
        tensor([-inf, 0.])
    """

    def __init__(
        self,
        probs: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = one_of(self, probs=probs, logits=logits)
        (param,) = to_tensors(self, **{given: probs if given == "probs" else logits})
        if param.dim() < 1:
            raise DistributionError(
                f"{type(self).__name__}: expected parameter '{given}' with at least one dimension, got "
                "shape (); pass a vector of length K"
            )
        self._is_logits = given == "logits"
        if self._is_logits:
            self.logits = param - param.logsumexp(-1, keepdim=True)
        else:
            total = param.sum(-1, keepdim=True)
            if validate_args is not False and is_validating() and bool((total == 0).any()):
                raise DistributionError(
                    f"{type(self).__name__}: expected parameter 'probs' with a positive sum over the "
                    f"categories, got {int((total == 0).sum())} rows of zeros of shape {tuple(param.shape)}; "
                    "give logits, or add a small number"
                )
            self.probs = param / total
        self._num_events = param.shape[-1]
        Distribution.__init__(self, param.shape[:-1], SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def logits(self) -> torch.Tensor:
        """Log-probabilities; -inf for a category of probability 0."""
        return self.probs.log()

    @property
    def _param(self) -> torch.Tensor:  # type: ignore[override]
        return self.logits if self._is_logits else self.probs

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        index, table = torch.broadcast_tensors(value.long().unsqueeze(-1), self._param)
        # Picking before the logarithm keeps a zero weight elsewhere out of the gradient.
        picked: torch.Tensor = table.gather(-1, index[..., :1]).squeeze(-1)
        return picked if self._is_logits else picked.log()

    def entropy(self) -> torch.Tensor:
        """Entropy in nats; categories of probability 0 count nothing."""
        probs = self.probs
        if not self._is_logits:
            return -xlogy(probs, probs).sum(-1)
        return -(probs * torch.where(probs > 0, self.logits, 0.0)).sum(-1)


class OneHotCategorical(td.OneHotCategorical, Distribution):
    """A unit vector of length K.

    Args:
        probs: weights of the categories, shape B + (K,); >= 0; or
        logits: log-weights.

    Example:
        >>> OneHotCategorical(torch.ones(4)).event_shape
        torch.Size([4])
    """

    def __init__(
        self,
        probs: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._categorical = _categorical_for(self, probs, logits)
        shape = self._categorical._param.shape
        Distribution.__init__(self, shape[:-1], shape[-1:], validate_args)

    expand = expand_parameters

    @property
    def mode(self) -> torch.Tensor:
        return self._unit_vectors(self.probs.argmax(-1))

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw a unit vector, shape sample_shape + B + (K,)."""
        return self._unit_vectors(self._categorical.sample(torch.Size(sample_shape)))

    def _unit_vectors(self, index: torch.Tensor) -> torch.Tensor:
        """Return one-hot rows; torch's one_hot looks at the values and so can not be traced."""
        probs = self.probs
        zeros = torch.zeros(index.shape + self.event_shape, dtype=probs.dtype, device=probs.device)
        return zeros.scatter(-1, index.unsqueeze(-1), 1.0)


class OneHotCategoricalStraightThrough(OneHotCategorical, td.OneHotCategoricalStraightThrough):
    """A unit vector whose draws pass the gradient straight to the probabilities.

    Bengio et al. 2013, arXiv:1308.3432.
    """

    has_rsample = True
    rsample = td.OneHotCategoricalStraightThrough.rsample


class Multinomial(td.Multinomial, Distribution):
    """Counts of K categories in ``total_count`` draws.

    Args:
        total_count: number of draws, one for the whole batch; int >= 0.
        probs: weights of the categories, shape B + (K,); >= 0; or
        logits: log-weights.

    Example:
        >>> Multinomial(2, torch.ones(2)).log_prob(torch.tensor([1.0, 1.0])).exp()
        tensor(0.5000)
    """

    def __init__(
        self,
        total_count: int = 1,
        probs: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(total_count, int):
            raise DistributionTypeError(
                "Multinomial: expected parameter 'total_count' as an int, one for the whole batch, got "
                f"{type(total_count).__name__}; use a Binomial for counts that differ"
            )
        if total_count < 0:
            raise DistributionError(
                f"Multinomial: expected parameter 'total_count' to be >= 0, got {total_count}; "
                "give the number of trials"
            )
        self.total_count = total_count
        self._categorical = _categorical_for(self, probs, logits)
        shape = self._categorical._param.shape
        Distribution.__init__(self, shape[:-1], shape[-1:], validate_args)

    expand = expand_parameters

    @lazy_property
    def _binomial(self) -> Any:
        return Binomial(self.total_count, self.probs, validate_args=False)

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw counts, shape sample_shape + B + (K,)."""
        if self.total_count == 0:
            return self.probs.new_zeros(self._extended_shape(torch.Size(sample_shape)))
        draws: torch.Tensor = super().sample(sample_shape)  # type: ignore[no-untyped-call]
        return draws

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        inner: Any = self._categorical
        counts, probs = torch.broadcast_tensors(value.to(inner._param.dtype), inner.probs)
        return log_binomial_kernel(counts, probs, inner.logits if inner._is_logits else None)

    def entropy(self) -> torch.Tensor:
        """Entropy in nats, from the marginal binomial laws."""
        n = torch.tensor(float(self.total_count), dtype=self.probs.dtype, device=self.probs.device)
        support = self._binomial.enumerate_support(expand=False)[1:]
        weights: torch.Tensor = torch.exp(self._binomial.log_prob(support)) * torch.lgamma(support + 1)
        inner: torch.Tensor = self._categorical.entropy()
        return n * inner - torch.lgamma(n + 1) + weights.sum([0, -1])


def _categorical_for(
    family: Distribution, probs: torch.Tensor | None, logits: torch.Tensor | None
) -> Categorical:
    """Build the inner law; the outer one checks the arguments, under its own name."""
    given = one_of(family, probs=probs, logits=logits)
    (param,) = to_tensors(family, **{given: probs if given == "probs" else logits})
    return Categorical(**{given: param}, validate_args=False)
