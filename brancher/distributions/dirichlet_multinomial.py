"""Counts whose category probabilities are Dirichlet."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import expand_parameters, to_tensors
from brancher.distributions.shapes import Size, broadcast
from brancher.distributions.special import deviance, stirling_remainder
from brancher.errors import DistributionError


class DirichletMultinomial(Distribution):
    """Multinomial counts with Dirichlet distributed probabilities, integrated out.

    Args:
        concentration: of the Dirichlet law, shape B + (K,); > 0.
        total_count: number of draws, a number or a tensor that broadcasts with B.
        is_sparse: accepted for compatibility; the density costs the same either way.

    Example:
        >>> d = DirichletMultinomial(torch.ones(3), total_count=2)
        >>> d.log_prob(torch.tensor([2.0, 0.0, 0.0])).exp()
        tensor(0.1667)
    """

    concentration: torch.Tensor
    total_count: torch.Tensor
    arg_constraints = {
        "concentration": constraints.independent(constraints.positive, 1),
        "total_count": constraints.nonnegative_integer,
    }

    def __init__(
        self,
        concentration: torch.Tensor,
        total_count: torch.Tensor | int = 1,
        is_sparse: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        concentration, total = to_tensors(self, concentration=concentration, total_count=total_count)
        if concentration.dim() < 1:
            raise DistributionError(
                "DirichletMultinomial: expected parameter 'concentration' with at least one dimension, "
                "got a number; its last dimension holds the categories"
            )
        self.is_sparse = is_sparse
        batch_shape = broadcast("total_count", concentration.shape[:-1], total.shape)
        event_shape = concentration.shape[-1:]
        self.concentration = concentration.expand(batch_shape + event_shape)
        self.total_count = total.to(concentration.dtype).expand(batch_shape)
        super().__init__(batch_shape, event_shape, validate_args)

    expand = expand_parameters

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        """Counts that add up to ``total_count``."""
        return constraints.multinomial(self.total_count)

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw probabilities, then counts."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            probs = torch._sample_dirichlet(self.concentration.expand(shape))
            return draw_multinomial(self.total_count.expand(shape[:-1]), probs)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-mass in nats, shape sample_shape + B; -inf where the counts miss ``total_count``."""
        if self._validate_args:
            self._validate_sample(value)
        counts = value.to(self.concentration.dtype)
        return torch.where(
            counts.sum(-1) == self.total_count, log_polya(counts, self.concentration), -torch.inf
        )

    @property
    def mean(self) -> torch.Tensor:
        share = self.concentration / self.concentration.sum(-1, keepdim=True)
        return share * self.total_count.unsqueeze(-1)

    @property
    def variance(self) -> torch.Tensor:
        n, s = self.total_count.unsqueeze(-1), self.concentration.sum(-1, keepdim=True)
        share = self.concentration / s
        return n * share * (1.0 - share) * (n + s) / (1.0 + s)


def log_polya(counts: torch.Tensor, concentration: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Log-mass of the Dirichlet-multinomial law over a dimension, in nats.

    With n the total of the counts x, s that of the concentration a and P = (x + a) / (n + s) the
    posterior mean, every large term of ``log Γ`` falls into the deviances of x from nP and of a
    from sP, which are small and do not cancel.

    Args:
        counts: non-negative.
        concentration: positive, of as many dimensions.
        dim: the dimension.
    """
    n, s = counts.sum(dim, keepdim=True), concentration.sum(dim, keepdim=True)
    joint = counts + concentration
    share = joint / (n + s)
    each = (
        _log_gamma_rest(joint)
        - _log_gamma_rest(concentration)
        - stirling_remainder(counts)
        - deviance(counts, n * share)
        - deviance(concentration, s * share)
    )
    total = stirling_remainder(n) + _log_gamma_rest(s) - _log_gamma_rest(n + s)
    return each.sum(dim) + total.squeeze(dim)


def _log_gamma_rest(x: torch.Tensor) -> torch.Tensor:
    """``log Γ(x) - x log x + x`` for ``x > 0``."""
    return stirling_remainder(x) - x.log()


def draw_multinomial(total_count: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """Draw multinomial counts where every entry has its own total.

    The categories are halved again and again, and each half's share is binomial: as many rounds
    as the logarithm of K, each one vectorised.

    Args:
        total_count: shape B, floating.
        probs: shape B + (K,).
    """
    size = probs.shape[-1]
    levels = max(size - 1, 0).bit_length()
    tree = [torch.nn.functional.pad(probs, (0, 2**levels - size))]
    for _ in range(levels):
        tree.append(tree[-1].unflatten(-1, (-1, 2)).sum(-1))
    counts = total_count.unsqueeze(-1)
    for parent, child in zip(tree[:0:-1], tree[-2::-1], strict=True):
        left = child.unflatten(-1, (-1, 2))[..., 0] / parent.clamp(min=torch.finfo(probs.dtype).tiny)
        drawn = torch.binomial(counts, left.clamp(0.0, 1.0))
        counts = torch.stack([drawn, counts - drawn], -1).flatten(-2)
    return counts[..., :size]
