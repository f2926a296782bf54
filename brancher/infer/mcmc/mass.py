"""Estimating the mass matrix from the draws of a warmup window.

Sources: Chan, Golub, LeVeque 1979 (moments merged in batches); the Stan reference manual, "HMC algorithm
parameters" (shrinkage towards a small unit metric); Seyboldt et al. 2026 and nutpie (the geometric mean of
the draws' variance and the inverse variance of the gradients minimises the Fisher divergence).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from brancher.infer.mcmc.integrator import Metric


class Moments(NamedTuple):
    """Number, mean and centred second moment of each chain's draws: ``()``, ``(C, D)``, ``(C, D[, D])``."""

    size: Tensor
    mean: Tensor
    second: Tensor


def no_moments(chains: int, dim: int, dense: bool, like: Tensor) -> Moments:
    """Moments of nothing."""
    shape = (chains, dim, dim) if dense else (chains, dim)
    return Moments(like.new_zeros(()), like.new_zeros(chains, dim), like.new_zeros(shape))


def merge(moments: Moments, draws: Tensor) -> Moments:
    """Take in draws of shape ``(C, N, D)``."""
    if draws.shape[1] == 0:
        return moments
    dense = moments.second.dim() == 3
    count = draws.shape[1]
    mean = draws.mean(1)
    centred = draws - mean[:, None]
    second = centred.mT @ centred if dense else centred.square().sum(1)
    total = moments.size + count
    shift = mean - moments.mean
    between = shift[:, :, None] * shift[:, None, :] if dense else shift.square()
    return Moments(
        total,
        moments.mean + shift * (count / total),
        moments.second + second + between * (moments.size * count / total),
    )


def unit_metric(chains: int, dim: int, dense: bool, like: Tensor) -> Metric:
    """The identity for every chain."""
    if dense:
        eye = torch.eye(dim, dtype=like.dtype, device=like.device).repeat(chains, 1, 1)
        return Metric(eye, eye.clone())
    ones = like.new_ones(chains, dim)
    return Metric(ones, ones.clone())


def metric_from_variance(variance: Tensor) -> Metric:
    """Diagonal metric with ``variance`` ``(C, D)`` as the inverse mass."""
    return Metric(variance, variance.rsqrt())


def metric_from_draws(moments: Moments) -> Metric:
    """Shrunk variance or covariance of the draws as the inverse mass."""
    count = moments.size
    shrink = count / (count + 5)
    covariance = moments.second / (count - 1).clamp(min=1) * shrink
    floor = 1e-3 * (1 - shrink)
    if moments.second.dim() == 2:
        return metric_from_variance(covariance + floor)
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    covariance = covariance + floor * eye
    factor, failed = torch.linalg.cholesky_ex(covariance)
    # A window whose draws span no volume keeps only the variances.
    diagonal = torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
    bad = (failed > 0)[:, None, None]
    covariance = torch.where(bad, diagonal, covariance)
    factor = torch.where(bad, diagonal.sqrt(), factor)
    return Metric(covariance, torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False).mT)


def metric_from_gradients(draws: Moments, grads: Moments) -> Metric:
    """Diagonal inverse mass: root of the draws' variance over the gradients' variance."""
    ratio = (draws.second / grads.second).sqrt()
    usable = torch.isfinite(ratio) & (ratio > 0)
    return metric_from_variance(torch.where(usable, ratio, torch.ones_like(ratio)).clamp(1e-20, 1e20))
