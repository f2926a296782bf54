"""Divergences of laws with shape parameters, with the digits that large shapes take from torch's formulas.

All follow from ``lgamma(a + 1) = a log a - a + R(a)`` and ``digamma(a) = log a - D(a)``: the large
terms cancel on paper, and what is left is small wherever the divergence is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import register_kl

from brancher.distributions.beta import Beta, Dirichlet
from brancher.distributions.counts import Poisson
from brancher.distributions.gamma import Gamma
from brancher.distributions.special import deviance, log_minus_digamma, stirling_remainder


def _gamma_gamma(p: Any, q: Any) -> torch.Tensor:
    a: torch.Tensor = p.concentration
    c: torch.Tensor = q.concentration
    log_rates = q.rate.log() - p.rate.log()
    spread = deviance(c, a * (q.rate / p.rate), a.log() + log_rates)
    return spread + _log_gamma_excess(c) - _log_gamma_excess(a) - (a - c) * log_minus_digamma(a)


def _dirichlet_dirichlet(p: Any, q: Any) -> torch.Tensor:
    a: torch.Tensor = p.concentration
    b: torch.Tensor = q.concentration
    a_total, b_total = a.sum(-1, keepdim=True), b.sum(-1, keepdim=True)
    spread = deviance(b, b_total * (a / a_total)) + _log_gamma_excess(b) - _log_gamma_excess(a)
    of_total = _log_gamma_excess(a_total) - _log_gamma_excess(b_total)
    of_total = of_total + (a_total - b_total) * log_minus_digamma(a_total)
    of_parts = (spread - (a - b) * log_minus_digamma(a)).sum(-1)
    return of_parts + of_total.squeeze(-1)


def _beta_beta(p: Any, q: Any) -> torch.Tensor:
    return _dirichlet_dirichlet(p._dirichlet, q._dirichlet)


def _poisson_poisson(p: Any, q: Any) -> torch.Tensor:
    return deviance(p.rate, q.rate)


def _log_gamma_excess(a: torch.Tensor) -> torch.Tensor:
    """lgamma(a) - a log a + a."""
    return stirling_remainder(a) - a.log()


_FORMULAS: list[tuple[type, Callable[[Any, Any], torch.Tensor]]] = [
    (Gamma, _gamma_gamma),
    (Dirichlet, _dirichlet_dirichlet),
    (Beta, _beta_beta),
    (Poisson, _poisson_poisson),
]
for _family, _formula in _FORMULAS:
    register_kl(_family, _family)(_formula)
