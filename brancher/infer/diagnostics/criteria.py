"""Predictive accuracy from pointwise log likelihoods: WAIC and PSIS-LOO.

Sources: Watanabe 2010; Vehtari, Gelman, Gabry 2017, "Practical Bayesian model evaluation using
leave-one-out cross-validation and WAIC", Statistics and Computing 27, eq. 3-13.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from brancher.errors import InferenceError
from brancher.infer.diagnostics.layout import check_tensor
from brancher.infer.diagnostics.psis import psis


class LooResult(NamedTuple):
    """Expected log predictive density by PSIS leave-one-out, in nats.

    ``elpd`` and ``se`` have shape ``()``, the pointwise fields one entry an observation. ``p_loo`` is the
    effective number of parameters.
    """

    elpd: Tensor
    se: Tensor
    p_loo: Tensor
    elpd_pointwise: Tensor
    pareto_k: Tensor


def waic(
    input: Tensor, log_weights: Tensor | None = None, pointwise: bool = False, dim: int = 0
) -> tuple[Tensor, Tensor]:
    """Widely applicable information criterion, on the deviance scale, and its effective parameters.

    Args:
        input: log likelihood of each observation in nats, draws along ``dim``.
        log_weights: optional log weights of the draws, shape ``(draws,)``.
        pointwise: whether to return one value an observation instead of the sums.
        dim: the dimension of draws.

    Returns:
        ``(waic, p_waic)``; lower waic is better.

    Example:
        >>> value, p = waic(torch.full((10, 3), -1.0))
        >>> float(value), round(float(p), 6)
        (6.0, 0.0)
    """
    check_tensor(input)
    values = input.movedim(dim, 0)
    if log_weights is None:
        log_weights = values.new_zeros(values.shape[0])
    weights = log_weights.log_softmax(0).reshape((-1,) + (1,) * (values.dim() - 1))
    density = (values + weights).logsumexp(0)
    mean = (weights.exp() * values).sum(0)
    draws = values.shape[0]
    p = (weights.exp() * (values - mean).square()).sum(0) * (draws / (draws - 1))
    value = -2 * (density - p)
    return (value, p) if pointwise else (value.sum(), p.sum())


def loo(log_likelihood: Tensor, relative_ess: float = 1.0) -> LooResult:
    """Leave-one-out cross-validation by Pareto smoothed importance sampling.

    Args:
        log_likelihood: nats, shape ``(draws, *observations)``.
        relative_ess: effective draws per draw, for the length of the smoothed tail.

    Returns:
        Sums and pointwise values; observations whose ``pareto_k`` exceeds 0.7 are not to be trusted.

    Raises:
        InferenceError: no observation dimension.

    Example:
        >>> float(loo(torch.full((100, 3), -1.0)).elpd)
        -3.0
    """
    check_tensor(log_likelihood)
    if log_likelihood.dim() < 2:
        raise InferenceError(
            f"loo 'log_likelihood': expected (draws, observations), got {tuple(log_likelihood.shape)}; "
            "keep one entry an observation"
        )
    values = log_likelihood.detach().to(torch.float64).reshape(log_likelihood.shape[0], -1)
    weights, k = psis(-values, relative_ess)
    pointwise = (weights + values).logsumexp(0)
    full = values.logsumexp(0) - math.log(values.shape[0])
    se = (pointwise.numel() * pointwise.var(correction=0)).sqrt()
    shape = log_likelihood.shape[1:]
    return LooResult(
        pointwise.sum(), se, (full - pointwise).sum(), pointwise.reshape(shape), k.reshape(shape)
    )


def bfmi(energy: Tensor) -> Tensor:
    """Estimated Bayesian fraction of missing information of each chain (Betancourt 2016).

    Args:
        energy: Hamiltonian at each draw, shape ``(chains, draws)``.

    Returns:
        Shape ``(chains,)``; below 0.3 the momentum refresh explores the energies too slowly.

    Example:
        >>> bfmi(torch.tensor([[0.0, 1.0, 0.0, 1.0]]))
        tensor([3.], dtype=torch.float64)
    """
    check_tensor(energy)
    series = energy.reshape(-1, energy.shape[-1]).to(torch.float64)
    ratio: Tensor = torch.diff(series, dim=1).square().mean(1) / series.var(1)
    return ratio
