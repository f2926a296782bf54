"""Beta, Dirichlet, Kumaraswamy: laws on the unit interval and the simplex."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, held, promote, to_tensors
from brancher.distributions.special import (
    is_small,
    log1mexp,
    log_dirichlet_kernel,
    log_minus_digamma,
    stirling_remainder,
    xlog1py,
    xlogy,
)
from brancher.errors import DistributionError


def _log_density(concentration: torch.Tensor, value: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Dirichlet log-density; on the border 0, finite or infinite as the concentration says."""
    inside = value > 0
    x = torch.where(inside, value, torch.finfo(value.dtype).tiny)
    at_border = torch.xlogy(concentration - 1.0, inside.to(x.dtype))
    return log_dirichlet_kernel(concentration, x, dim) + (at_border - x.log()).sum(dim)


class Dirichlet(td.Dirichlet, Distribution):
    """Dirichlet law over probability vectors.

    Args:
        concentration: shape B + (K,); > 0.

    Example:
        >>> Dirichlet(torch.ones(3)).log_prob(torch.tensor([0.2, 0.3, 0.5]))
        tensor(0.6931)
    """

    def __init__(self, concentration: torch.Tensor, validate_args: bool | None = None) -> None:
        (self.concentration,) = to_tensors(self, concentration=concentration)
        if self.concentration.dim() < 1:
            raise DistributionError(
                "Dirichlet: expected parameter 'concentration' with at least one dimension, got shape (); "
                "pass a vector of length K"
            )
        shape = self.concentration.shape
        Distribution.__init__(self, shape[:-1], shape[-1:], validate_args)

    expand = expand_parameters

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        concentration, value = torch.broadcast_tensors(self.concentration, value)
        return _log_density(concentration, value)

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats, shape B."""
        a = self.concentration
        total, size = a.sum(-1), a.shape[-1]
        of_parts = stirling_remainder(a) + (a - 1.0) * log_minus_digamma(a)
        of_total = stirling_remainder(total) + (total - size) * log_minus_digamma(total)
        return of_parts.sum(-1) - of_total - (size - 1) * total.log()


class Beta(td.Beta, Distribution):
    """Beta law on the unit interval.

    Args:
        concentration1: weight of 1; > 0.
        concentration0: weight of 0; > 0.

    Example:
        >>> Beta(2.0, 2.0).log_prob(torch.tensor(0.5))
        tensor(0.4055)
    """

    concentration1: torch.Tensor = held()
    concentration0: torch.Tensor = held()

    def __init__(
        self, concentration1: Number, concentration0: Number, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = promote(
            self, concentration1=concentration1, concentration0=concentration0
        )
        self._is_small = is_small(concentration1) and is_small(concentration0)
        Distribution.__init__(self, self.concentration1.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def _dirichlet(self) -> Any:
        pair = torch.stack([self.concentration1, self.concentration0], -1)
        return Dirichlet(pair, validate_args=False)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats; right digits at concentrations of 1e8 and more."""
        if self._validate_args:
            self._validate_sample(value)
        if self._is_small:
            a, b = self.concentration1, self.concentration0
            normalizer = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
            return xlogy(a - 1.0, value) + xlog1py(b - 1.0, -value) - normalizer
        a, b, value = torch.broadcast_tensors(self.concentration1, self.concentration0, value)
        # Pairs stand in front: a loop over the last dimension, which may be long, is the fast one.
        return _log_density(torch.stack([a, b]), torch.stack([value, 1.0 - value]), dim=0)

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        of_pair: torch.Tensor = self._dirichlet.entropy()
        return of_pair


class Kumaraswamy(td.Kumaraswamy, Distribution):
    """Kumaraswamy law on the unit interval: distribution function ``1 - (1 - x^a)^b``.

    Args:
        concentration1: a; > 0.
        concentration0: b; > 0.

    Example:
        >>> Kumaraswamy(1.0, 1.0).log_prob(torch.tensor(0.5))
        tensor(0.)
    """

    def __init__(
        self, concentration1: Number, concentration0: Number, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = promote(
            self, concentration1=concentration1, concentration0=concentration0
        )
        Distribution.__init__(self, self.concentration1.shape, SCALAR, validate_args)

    expand = expand_parameters

    @lazy_property
    def base_dist(self) -> Any:
        """The uniform law that is transformed."""
        zero, one = torch.zeros_like(self.concentration1), torch.ones_like(self.concentration1)
        return td.Uniform(zero, one, validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """From a uniform draw to this law."""
        return [
            td.PowerTransform(self.concentration0.reciprocal()),
            td.AffineTransform(1.0, -1.0),
            td.PowerTransform(self.concentration1.reciprocal()),
        ]

    def rsample(self, sample_shape: Any = SCALAR) -> torch.Tensor:
        """Draw by the quantile function, inside the open interval."""
        shape = self._extended_shape(torch.Size(sample_shape))
        a, limits = self.concentration1, torch.finfo(self.concentration1.dtype)
        uniform = torch.rand(shape, dtype=a.dtype, device=a.device)
        return self.icdf(uniform.clamp(limits.tiny, 1.0 - limits.eps))

    def sample(self, sample_shape: Any = SCALAR) -> torch.Tensor:
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        limits = torch.finfo(value.dtype)
        log_value = value.clamp(limits.tiny, 1.0 - 0.5 * limits.eps).log()
        # On the border the density is 0, finite or infinite as the concentrations say.
        at_border = torch.xlogy(a - 1.0, (value > 0).to(value.dtype))
        at_border = at_border + torch.xlogy(b - 1.0, (value < 1).to(value.dtype))
        inside = (a - 1.0) * log_value + (b - 1.0) * log1mexp(a * log_value)
        return a.log() + b.log() + inside + at_border

    def cdf(self, value: torch.Tensor) -> torch.Tensor:
        """Distribution function."""
        if self._validate_args:
            self._validate_sample(value)
        return -torch.expm1(self.concentration0 * log1mexp(self.concentration1 * value.log()))

    def icdf(self, value: torch.Tensor) -> torch.Tensor:
        """Quantile of the probability ``value``."""
        log_power = log1mexp(torch.log1p(-value) / self.concentration0)
        return torch.exp(log_power / self.concentration1)
