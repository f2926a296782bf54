"""Kullback-Leibler divergences: torch's registry, completed for our wrappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import distributions as td
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import register_kl
from torch.distributions.kl import kl_divergence as torch_kl_divergence

from brancher.distributions.algebra import ExpandedDistribution, Independent, MaskedDistribution
from brancher.distributions.bernoulli import Bernoulli
from brancher.distributions.shapes import broadcast_shapes, sum_rightmost
from brancher.errors import UnsupportedError

__all__ = ["kl_divergence", "register_kl"]


def kl_divergence(p: TorchDistribution, q: TorchDistribution) -> torch.Tensor:
    """Return ``KL(p || q)`` in nats, of the batch shape that p and q share.

    Raises:
        UnsupportedError: no formula is registered for the two classes.

    Example:
        >>> from brancher.distributions import Normal
        >>> kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0))
        tensor(0.5000)
    """
    try:
        return torch_kl_divergence(p, q)
    except NotImplementedError as error:
        raise UnsupportedError(
            f"kl_divergence: expected a registered pair of classes, got {type(p).__name__} and "
            f"{type(q).__name__}; register_kl the formula, or estimate it from draws of the first"
        ) from error


def _independent_independent(p: Any, q: Any) -> torch.Tensor:
    shared = min(p.reinterpreted_batch_ndims, q.reinterpreted_batch_ndims)
    return sum_rightmost(kl_divergence(_peel(p, shared), _peel(q, shared)), shared)


def _peel(d: Any, ndims: int) -> Any:
    """Give ``ndims`` event dimensions back to the batch."""
    left = d.reinterpreted_batch_ndims - ndims
    return Independent(d.base_dist, left) if left else d.base_dist


def _independent_multivariate(p: Any, q: Any) -> torch.Tensor:
    return torch_kl_divergence(_as_multivariate(p), q)


def _multivariate_independent(p: Any, q: Any) -> torch.Tensor:
    return torch_kl_divergence(p, _as_multivariate(q))


def _as_multivariate(d: Any) -> td.MultivariateNormal:
    """Read a diagonal normal vector as a multivariate one."""
    if not isinstance(d.base_dist, td.Normal) or d.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    scale_tril = d.base_dist.scale.diag_embed()
    return td.MultivariateNormal(d.base_dist.loc, scale_tril=scale_tril, validate_args=False)


def _masked_any(p: MaskedDistribution, q: TorchDistribution) -> torch.Tensor:
    return p._zero_out(kl_divergence(p.base_dist, q))


def _any_masked(p: TorchDistribution, q: MaskedDistribution) -> torch.Tensor:
    return q._zero_out(kl_divergence(p, q.base_dist))


def _masked_masked(p: MaskedDistribution, q: MaskedDistribution) -> torch.Tensor:
    return p._zero_out(q._zero_out(kl_divergence(p.base_dist, q.base_dist)))


def _expanded_any(p: Any, q: Any) -> torch.Tensor:
    return _at_least(kl_divergence(p.base_dist, q), p)


def _any_expanded(p: Any, q: Any) -> torch.Tensor:
    return _at_least(kl_divergence(p, q.base_dist), q)


def _expanded_expanded(p: Any, q: Any) -> torch.Tensor:
    return _at_least(_at_least(kl_divergence(p.base_dist, q.base_dist), p), q)


def _at_least(divergence: torch.Tensor, d: Any) -> torch.Tensor:
    return divergence.expand(broadcast_shapes(divergence.shape, d.batch_shape))


def _bernoulli_bernoulli(p: Bernoulli, q: Bernoulli) -> torch.Tensor:
    return -p.entropy() - q._log_success(p.probs) - q._log_failure(p._failure_probs())


_RULES: list[tuple[type, type, Callable[[Any, Any], torch.Tensor]]] = [
    (td.Independent, td.Independent, _independent_independent),
    (td.Independent, td.MultivariateNormal, _independent_multivariate),
    (td.MultivariateNormal, td.Independent, _multivariate_independent),
    (MaskedDistribution, TorchDistribution, _masked_any),
    (TorchDistribution, MaskedDistribution, _any_masked),
    (MaskedDistribution, MaskedDistribution, _masked_masked),
    (ExpandedDistribution, TorchDistribution, _expanded_any),
    (TorchDistribution, ExpandedDistribution, _any_expanded),
    (ExpandedDistribution, ExpandedDistribution, _expanded_expanded),
    # A mask has to come off first: it is the outer layer of what is left.
    (ExpandedDistribution, MaskedDistribution, _any_masked),
    (MaskedDistribution, ExpandedDistribution, _masked_any),
    (Bernoulli, Bernoulli, _bernoulli_bernoulli),
]
for _p, _q, _rule in _RULES:
    register_kl(_p, _q)(_rule)
