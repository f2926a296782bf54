"""Continuous relaxations of discrete draws (Maddison et al. 2017, arXiv:1611.00712)."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributions as td
from torch.distributions import relaxed_bernoulli, relaxed_categorical
from torch.distributions.utils import lazy_property
from torch.nn.functional import logsigmoid

from brancher.distributions.base import Distribution
from brancher.distributions.categorical import Categorical
from brancher.distributions.odds import Odds
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, held, one_of, to_tensors
from brancher.distributions.shapes import Size, broadcast_shapes


class LogitRelaxedBernoulli(Odds, relaxed_bernoulli.LogitRelaxedBernoulli, Distribution):  # type: ignore[override]
    """Log-odds of a RelaxedBernoulli draw; support the reals.

    Args:
        temperature: towards 0 the draws become 0 or 1; > 0.
        probs: probability of 1; or
        logits: its log-odds.
    """

    has_rsample = True
    arg_constraints = {
        "temperature": td.constraints.positive,
        **relaxed_bernoulli.LogitRelaxedBernoulli.arg_constraints,
    }

    def __init__(
        self,
        temperature: Number,
        probs: Number | None = None,
        logits: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        (self.temperature,) = self._take(probs, logits, temperature=temperature)
        Distribution.__init__(self, self._param.shape, SCALAR, validate_args)

    expand = expand_parameters

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw a logistic noise around the log-odds."""
        shape = self._extended_shape(torch.Size(sample_shape))
        limits = torch.finfo(self._param.dtype)
        uniform = torch.rand(shape, dtype=self._param.dtype, device=self._param.device)
        uniform = uniform.clamp(limits.tiny, 1.0 - limits.eps)
        return (self.logits + torch.logit(uniform)) / self.temperature

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        difference = self.logits - value * self.temperature
        return self.temperature.log() + logsigmoid(difference) + logsigmoid(-difference)


class RelaxedBernoulli(Odds, td.RelaxedBernoulli, Distribution):
    """A draw between 0 and 1, differentiable in its parameters.

    Args:
        temperature: towards 0 the draws become 0 or 1; > 0.
        probs: probability of 1; or
        logits: its log-odds.

    Example:
        >>> RelaxedBernoulli(1.0, probs=0.5).log_prob(torch.tensor(0.5))
        tensor(0.)
    """

    temperature: torch.Tensor = held()
    arg_constraints = {
        "temperature": td.constraints.positive,
        **td.RelaxedBernoulli.arg_constraints,
    }

    def __init__(
        self,
        temperature: Number,
        probs: Number | None = None,
        logits: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        (self.temperature,) = self._take(probs, logits, temperature=temperature)
        Distribution.__init__(self, self._param.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def base_dist(self) -> Any:
        """The law of the log-odds."""
        given = {"logits" if self._is_logits else "probs": self._param}
        return LogitRelaxedBernoulli(self.temperature, **given, validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """From log-odds to the unit interval."""
        return [td.SigmoidTransform()]

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B; right up to the last number below 1."""
        if self._validate_args:
            self._validate_sample(value)
        limits = torch.finfo(value.dtype)
        value = value.clamp(limits.tiny, 1.0 - 0.5 * limits.eps)  # at 0 and 1 the density of the next number
        log_value, log_rest = value.log(), (-value).log1p()
        return self.base_dist.log_prob(log_value - log_rest) - log_value - log_rest  # type: ignore[no-any-return]


class ExpRelaxedCategorical(relaxed_categorical.ExpRelaxedCategorical, Distribution):
    """Logarithm of a RelaxedOneHotCategorical draw.

    Args:
        temperature: towards 0 the draws become one-hot; one number; > 0.
        probs: weights of the categories, shape B + (K,); or
        logits: log-weights.
    """

    arg_constraints = {
        "temperature": td.constraints.positive,
        **relaxed_categorical.ExpRelaxedCategorical.arg_constraints,
    }

    def __init__(
        self,
        temperature: Number,
        probs: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = one_of(self, probs=probs, logits=logits)
        param = probs if given == "probs" else logits
        self.temperature, param = to_tensors(self, temperature=temperature, **{given: param})
        self._categorical = Categorical(**{given: param}, validate_args=False)
        shape = broadcast_shapes(self._categorical.batch_shape, self.temperature.shape)
        self.temperature = self.temperature.expand(shape)
        self._categorical = self._categorical.expand(shape)
        Distribution.__init__(self, shape, param.shape[-1:], validate_args)

    expand = expand_parameters

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw Gumbel noise around the log-weights, normalised."""
        shape = self._extended_shape(torch.Size(sample_shape))
        limits = torch.finfo(self.logits.dtype)
        uniform = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        gumbel = -torch.log(-uniform.clamp(limits.tiny, 1.0 - limits.eps).log())
        scores = (self.logits + gumbel) / self.temperature.unsqueeze(-1)
        return scores - scores.logsumexp(-1, keepdim=True)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        size = self.event_shape[-1]
        score = self.logits - value * self.temperature.unsqueeze(-1)
        normal = score - score.logsumexp(-1, keepdim=True)
        constant = torch.lgamma(torch.full_like(self.temperature, float(size)))
        return normal.sum(-1) + constant + (size - 1) * self.temperature.log()


class RelaxedOneHotCategorical(td.RelaxedOneHotCategorical, Distribution):
    """A probability vector near the corners of the simplex, differentiable in its parameters.

    Args:
        temperature: towards 0 the draws become one-hot; one number; > 0.
        probs: weights of the categories, shape B + (K,); or
        logits: log-weights.

    Example:
        >>> RelaxedOneHotCategorical(1.0, probs=torch.ones(3)).event_shape
        torch.Size([3])
    """

    arg_constraints = {
        "temperature": td.constraints.positive,
        **td.RelaxedOneHotCategorical.arg_constraints,
    }

    def __init__(
        self,
        temperature: Number,
        probs: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        one_of(self, probs=probs, logits=logits)
        self.base_dist = ExpRelaxedCategorical(temperature, probs, logits, validate_args=False)
        self.transforms = [td.ExpTransform()]
        base = self.base_dist
        Distribution.__init__(self, base.batch_shape, base.event_shape, validate_args)

    expand = expand_parameters
