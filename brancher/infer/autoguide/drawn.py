"""A law together with one draw of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import constraints, kl_divergence, register_kl

from brancher.distributions import Delta, Distribution, ExpandedDistribution, MaskedDistribution
from brancher.distributions.shapes import Size


class Drawn(Distribution):
    """A law that was drawn from before its site was reached, with the density of that draw.

    Guides draw all their sites in a few tensor operations and hand each site its part. The
    density of the draw follows from the noise behind it, without inverting anything; the law
    itself is only built when something else is asked.

    Args:
        value: the draw, shape B + E.
        density: gives the log-density of the draw in nats, shape B.
        law: gives the law.
        event_dim: rank of E.
        support: where draws lie.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(
        self,
        value: torch.Tensor,
        density: Callable[[], torch.Tensor],
        law: Callable[[], TorchDistribution],
        event_dim: int,
        support: Any,
    ) -> None:
        cut = value.dim() - event_dim
        self.value, self._density, self._law, self._support = value, density, law, support
        super().__init__(value.shape[:cut], value.shape[cut:], validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        """Where draws lie."""
        return self._support

    @property
    def law(self) -> TorchDistribution:
        """The law that was drawn from."""
        return self._law()

    def expand(self, batch_shape: Size, _instance: Any = None) -> Distribution:
        """Return the law for a larger batch, drawn from anew; itself for its own batch shape."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return self.law.expand(torch.Size(batch_shape))  # type: ignore[no-any-return]

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Return the draw; new draws for a sample shape."""
        return self.law.rsample(torch.Size(sample_shape)) if sample_shape else self.value

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Return the draw without its gradient; new draws for a sample shape."""
        with torch.no_grad():
            return self.rsample(sample_shape).detach()

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        return self._density() if value is self.value else self.law.log_prob(value)

    @property
    def mean(self) -> torch.Tensor:
        return self.law.mean

    @property
    def variance(self) -> torch.Tensor:
        return self.law.variance

    def entropy(self) -> torch.Tensor:
        """Entropy of the law."""
        return self.law.entropy()


def point(value: torch.Tensor, event_dim: int, log_density: torch.Tensor | None = None) -> Drawn:
    """All mass on a value, with a density there that comes from elsewhere; 0 for None.

    As ``Delta``, but without comparing the value with itself at every step.
    """
    batch_shape = value.shape[: value.dim() - event_dim]
    density = value.new_zeros(batch_shape) if log_density is None else log_density.expand(batch_shape)
    support = constraints.independent(constraints.real, event_dim)
    return Drawn(
        value,
        lambda: density,
        lambda: Delta(value, density, event_dim, validate_args=False),
        event_dim,
        support,
    )


def _kl_drawn(p: Drawn, q: TorchDistribution) -> torch.Tensor:
    return kl_divergence(p.law, q)


# The wrappers too: torch warns where two registered pairs fit equally well.
for _family in (TorchDistribution, MaskedDistribution, ExpandedDistribution):
    register_kl(Drawn, _family)(_kl_drawn)
