"""Laws of counts: Poisson, Binomial, NegativeBinomial, Geometric."""

from __future__ import annotations

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions import constraints
from brancher.distributions.base import Distribution
from brancher.distributions.gamma import Gamma
from brancher.distributions.odds import Odds
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, promote
from brancher.distributions.shapes import Size
from brancher.distributions.special import deviance, stirling_remainder

_COUNTABLE = 1e18  # torch counts in 64 bits, and returns a negative number beyond


def draw_poisson(rate: torch.Tensor) -> torch.Tensor:
    """Draw Poisson counts; beyond rates of 1e18 their spread, below a part in 1e9, is left out."""
    return torch.where(rate < _COUNTABLE, torch.poisson(rate.clamp(max=_COUNTABLE)), rate.round())


class Poisson(td.Poisson, Distribution):
    """Poisson law of counts.

    Args:
        rate: mean; >= 0.

    Example:
        >>> Poisson(1e8).log_prob(torch.tensor(1e8))
        tensor(-10.1293)
    """

    def __init__(self, rate: Number, validate_args: bool | None = None) -> None:
        (self.rate,) = promote(self, rate=rate)
        Distribution.__init__(self, self.rate.shape, SCALAR, validate_args)

    expand = expand_parameters

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw counts, shape sample_shape + B."""
        with torch.no_grad():
            return draw_poisson(self.rate.expand(self._extended_shape(torch.Size(sample_shape))))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats; right digits at rates of 1e8 and more (Loader 2000)."""
        if self._validate_args:
            self._validate_sample(value)
        count = value.to(self.rate.dtype)
        return -deviance(count, self.rate) - stirling_remainder(count)


class Binomial(Odds, td.Binomial, Distribution):  # type: ignore[override]
    """Number of successes in independent trials.

    Args:
        total_count: number of trials; integer >= 0.
        probs: probability of success; or
        logits: its log-odds.

    Example:
        >>> Binomial(2, 0.5).log_prob(torch.tensor(1.0)).exp()
        tensor(0.5000)
    """

    def __init__(
        self,
        total_count: Number = 1,
        probs: Number | None = None,
        logits: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        (self.total_count,) = self._take(probs, logits, total_count=total_count)
        self.total_count = self.total_count.to(self._param.dtype)
        Distribution.__init__(self, self._param.shape, SCALAR, validate_args)

    expand = expand_parameters

    @property
    def variance(self) -> torch.Tensor:
        return self.mean * self._failure_probs()

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats; right digits at 1e8 trials and more (Loader 2000)."""
        if self._validate_args:
            self._validate_sample(value)
        count, total = torch.broadcast_tensors(value.to(self._param.dtype), self.total_count)
        return self._log_of_counts(count, total - count)


class NegativeBinomial(Odds, td.NegativeBinomial, Distribution):  # type: ignore[override]
    """Number of successes before ``total_count`` failures.

    Args:
        total_count: number of failures; real >= 0.
        probs: probability of success, 0 <= probs < 1; or
        logits: its log-odds.

    Example:
        >>> NegativeBinomial(1.0, 0.5).log_prob(torch.tensor(0.0)).exp()
        tensor(0.5000)
    """

    def __init__(
        self,
        total_count: Number,
        probs: Number | None = None,
        logits: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        (self.total_count,) = self._take(probs, logits, total_count=total_count)
        self.total_count = self.total_count.to(self._param.dtype)
        Distribution.__init__(self, self._param.shape, SCALAR, validate_args)

    expand = expand_parameters

    @property
    def mean(self) -> torch.Tensor:
        return self.total_count * self.probs / self._failure_probs()

    @property
    def variance(self) -> torch.Tensor:
        return self.mean / self._failure_probs()

    @lazy_property
    def _gamma(self) -> Gamma:
        # The rate is the odds of failure: a gamma mixture of Poisson laws.
        rate = torch.exp(-self.logits) if self._is_logits else self._failure_probs() / self.probs
        return Gamma(self.total_count, rate, validate_args=False)

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw a Poisson count at a gamma rate."""
        with torch.no_grad():
            return draw_poisson(self._gamma.sample(torch.Size(sample_shape)))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats; right digits at 1e8 failures and more (Loader 2000)."""
        if self._validate_args:
            self._validate_sample(value)
        count, failures = torch.broadcast_tensors(value.to(self._param.dtype), self.total_count)
        total = count + failures
        # Without failures and successes the law is certain.
        share = torch.where(total > 0, failures / torch.where(total > 0, total, 1.0), 1.0)
        return self._log_of_counts(count, failures) + share.log()


class Geometric(Odds, td.Geometric, Distribution):
    """Number of failures before the first success.

    Args:
        probs: probability of success; 0 < probs <= 1; or
        logits: its log-odds.

    Example:
        >>> Geometric(0.5).log_prob(torch.tensor(1.0)).exp()
        tensor(0.2500)
    """

    arg_constraints = {
        "probs": constraints.left_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }

    def __init__(
        self, probs: Number | None = None, logits: Number | None = None, validate_args: bool | None = None
    ) -> None:
        self._take(probs, logits)
        Distribution.__init__(self, self._param.shape, SCALAR, validate_args)

    expand = expand_parameters

    @property
    def mean(self) -> torch.Tensor:
        return self._failure_probs() / self.probs

    @property
    def variance(self) -> torch.Tensor:
        return self.mean / self.probs

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw by the quantile function."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            probs = self.probs
            uniform = torch.rand(shape, dtype=probs.dtype, device=probs.device)
            uniform = uniform.clamp(min=torch.finfo(probs.dtype).tiny)
            return torch.floor(uniform.log() / torch.log1p(-probs))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        return self._log_failure(value) + self._log_success(torch.ones_like(self._param))

    def entropy(self) -> torch.Tensor:
        """Entropy in nats."""
        one = torch.ones_like(self._param)
        # For rare successes the mean number of failures times -log(1 - probs) tends to one.
        is_rare = self.probs == 0
        of_failures = -self._log_failure(self._failure_probs()) / torch.where(is_rare, 1.0, self.probs)
        return torch.where(is_rare, 1.0, of_failures) - self._log_success(one)
