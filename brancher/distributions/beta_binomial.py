"""Successes whose probability is Beta distributed."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from brancher.distributions.dirichlet_multinomial import log_polya
from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size
from brancher.errors import DistributionError


class BetaBinomial(Elementwise):
    """Number of successes in ``total_count`` trials with a Beta probability, integrated out.

    Args:
        concentration1: of the Beta law, for successes; > 0.
        concentration0: of the Beta law, for failures; > 0.
        total_count: number of trials.

    Example:
        >>> BetaBinomial(1.0, 1.0, total_count=3).log_prob(torch.tensor(2.0)).exp()
        tensor(0.2500)
    """

    has_enumerate_support = True
    concentration1: torch.Tensor
    concentration0: torch.Tensor
    total_count: torch.Tensor
    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
        "total_count": constraints.nonnegative_integer,
    }

    def __init__(
        self,
        concentration1: Number,
        concentration0: Number,
        total_count: torch.Tensor | int = 1,
        validate_args: bool | None = None,
    ) -> None:
        # Known here, so that enumeration never has to read it back from a device.
        self._total = total_count if isinstance(total_count, int) else None
        super().__init__(
            validate_args,
            concentration1=concentration1,
            concentration0=concentration0,
            total_count=total_count,
        )

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The integers from 0 to ``total_count``."""
        return constraints.integer_interval(0, self.total_count)

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw a probability, then successes."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            concentration = torch.stack([self.concentration1, self.concentration0], -1)
            probs = torch._sample_dirichlet(concentration.expand((*shape, 2)))[..., 0]
            return torch.binomial(self.total_count.clamp(min=0).expand(shape), probs)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-mass in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        k = value.to(self.concentration1.dtype)
        is_inside = (k >= 0) & (k <= self.total_count)
        k, n = torch.where(is_inside, k, 0.0), torch.where(is_inside, self.total_count, 0.0)
        # Pairs stand in front: a loop over the last dimension, which may be long, is the fast one.
        counts = torch.stack([k, n - k])
        padding = (1,) * (k.dim() - self.concentration1.dim())
        pair = torch.stack([self.concentration1, self.concentration0])
        concentration = pair.reshape(2, *padding, *self.concentration1.shape)
        return torch.where(is_inside, log_polya(counts, concentration, dim=0), -torch.inf)

    @property
    def mean(self) -> torch.Tensor:
        return self.total_count * self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> torch.Tensor:
        s = self.concentration1 + self.concentration0
        share = (self.concentration1 / s) * (self.concentration0 / s)
        return self.total_count * share * (s + self.total_count) / (s + 1.0)

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """Every count from 0 to ``total_count``, shape (total_count + 1,) + B, or ones for B.

        Raises:
            DistributionError: ``total_count`` differs within the batch.
        """
        total = self._total if self._total is not None else common_count(self, self.total_count)
        like = self.concentration1
        values = torch.arange(1 + total, dtype=like.dtype, device=like.device)
        values = values.reshape((-1, *(1,) * len(self.batch_shape)))
        return values.expand((-1, *self.batch_shape)) if expand else values


def common_count(family: object, total_count: torch.Tensor) -> int:
    """Return the one total that all entries share.

    Raises:
        DistributionError: they differ.
    """
    low, high = total_count.aminmax()
    if low != high:
        raise DistributionError(
            f"{type(family).__name__}: expected one total_count in the whole batch to enumerate, "
            f"got {low:g} to {high:g}"
        )
    return int(high)
