"""AffineBeta: a Beta law on any interval."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints
from torch.distributions.utils import lazy_property

from brancher.distributions.beta import Beta
from brancher.distributions.elementwise import Elementwise
from brancher.distributions.parameters import Number
from brancher.distributions.shapes import Size


class AffineBeta(Elementwise):
    """Law of ``loc + scale * x`` for x from a Beta law.

    Args:
        concentration1: weight of the upper end; > 0.
        concentration0: weight of the lower end; > 0.
        loc: lower end of the interval.
        scale: width of the interval; > 0.

    Example:
        >>> AffineBeta(2.0, 2.0, loc=-1.0, scale=4.0).mean
        tensor(1.)
    """

    has_rsample = True
    concentration1: torch.Tensor
    concentration0: torch.Tensor
    loc: torch.Tensor
    scale: torch.Tensor
    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }

    def __init__(
        self,
        concentration1: Number,
        concentration0: Number,
        loc: Number,
        scale: Number,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(
            validate_args,
            concentration1=concentration1,
            concentration0=concentration0,
            loc=loc,
            scale=scale,
        )

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        """From ``loc`` to ``loc + scale``."""
        return constraints.interval(self.loc, self.loc + self.scale)

    @lazy_property
    def base_dist(self) -> Beta:
        """The Beta law on the unit interval."""
        return Beta(self.concentration1, self.concentration0, validate_args=False)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably, by the implicit gradient of the Beta law."""
        return self.loc + self.scale * self.base_dist.rsample(torch.Size(sample_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        share = ((value - self.loc) / self.scale).clamp(0.0, 1.0)
        return self.base_dist.log_prob(share) - self.scale.log()

    @property
    def mean(self) -> torch.Tensor:
        return self.loc + self.scale * self.base_dist.mean

    @property
    def variance(self) -> torch.Tensor:
        return self.scale**2 * self.base_dist.variance

    def entropy(self) -> torch.Tensor:
        """Differential entropy in nats."""
        of_base: torch.Tensor = self.base_dist.entropy()
        return of_base + self.scale.log()
