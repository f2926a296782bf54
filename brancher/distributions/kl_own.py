"""Kullback-Leibler divergences of our own families, where they have closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import Distribution as TorchDistribution

from brancher.distributions.delta import Delta
from brancher.distributions.discrete_uniform import DiscreteUniform
from brancher.distributions.gamma import Gamma
from brancher.distributions.inverse_gamma import InverseGamma
from brancher.distributions.kl import kl_divergence, register_kl
from brancher.distributions.logit_normal import LogitNormal
from brancher.distributions.normal import Normal
from brancher.distributions.truncated_normal import TruncatedNormal
from brancher.errors import DistributionError


def _delta_any(p: Any, q: Any) -> torch.Tensor:
    if p.event_shape != q.event_shape:
        raise DistributionError(
            f"kl_divergence: expected two laws of one event shape, got {tuple(p.event_shape)} of Delta and "
            f"{tuple(q.event_shape)} of {type(q).__name__}; see event_dim and to_event"
        )
    return torch.sub(p.log_density, q.log_prob(p.v))


def _logit_normal(p: Any, q: Any) -> torch.Tensor:
    # The sigmoid is a bijection, which leaves the divergence as it is.
    return kl_divergence(_normal(p), _normal(q))


def _normal(d: LogitNormal) -> Normal:
    return Normal(d.loc, d.scale, validate_args=False)


def _inverse_gamma(p: Any, q: Any) -> torch.Tensor:
    return kl_divergence(_gamma(p), _gamma(q))


def _gamma(d: InverseGamma) -> Gamma:
    return Gamma(d.concentration, d.rate, validate_args=False)


def _discrete_uniform(p: Any, q: Any) -> torch.Tensor:
    is_inside = (p.low >= q.low) & (p.high <= q.high)
    return torch.where(is_inside, q.entropy() - p.entropy(), torch.inf)


def _truncated_normal(p: Any, q: Any) -> torch.Tensor:
    """Closed in the first two moments of p, taken around the mode of q, where q's terms are small."""
    is_inside = (p.low >= q.low) & (p.high <= q.high)
    shift = (p.mean - q.mode) / q.scale
    energy = 0.5 * (p.variance / q.scale**2 + shift**2) + shift * q._offset()
    cross = energy + q.scale.log() + q._mass().log()
    return torch.where(is_inside, cross - p.entropy(), torch.inf)


_FORMULAS: list[tuple[type, type, Callable[[Any, Any], torch.Tensor]]] = [
    (Delta, TorchDistribution, _delta_any),
    (LogitNormal, LogitNormal, _logit_normal),
    (InverseGamma, InverseGamma, _inverse_gamma),
    (DiscreteUniform, DiscreteUniform, _discrete_uniform),
    (TruncatedNormal, TruncatedNormal, _truncated_normal),
]
for _p, _q, _formula in _FORMULAS:
    register_kl(_p, _q)(_formula)
