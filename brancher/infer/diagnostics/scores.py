"""How well draws foretell what came, and draws with weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from brancher.errors import InferenceError


def crps_empirical(pred: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of draws, lower is better: ``E|x - truth| - E|x - x'| / 2``.

    Gneiting & Raftery 2007, "Strictly proper scoring rules", eq. 20, with the sign turned; by sorting, in
    n log n. The absolute error for a single draw.

    Args:
        pred: draws, shape (num_samples, *shape).
        truth: what came, shape (*shape).

    Returns:
        One score an entry, in the units of the data, shape (*shape).

    Raises:
        InferenceError: the shapes do not belong together.

    Example:
        >>> crps_empirical(torch.tensor([0.0, 2.0]), torch.tensor(1.0))
        tensor(0.5000)
    """
    if pred.dim() != truth.dim() + 1 or pred.shape[1:] != truth.shape:
        raise InferenceError(
            f"crps_empirical: expected draws of shape (num_samples, *{tuple(truth.shape)}), got "
            f"{tuple(pred.shape)}; the draws are the first dimension"
        )
    count = len(pred)
    gaps = pred.sort(0).values.diff(dim=0)
    # A gap between neighbours lies between as many pairs as there are draws below it times above it.
    below = torch.arange(1, count, dtype=pred.dtype, device=pred.device)
    pairs = (below * (count - below)).reshape(-1, *[1] * truth.dim())
    return (pred - truth).abs().mean(0) - (gaps * pairs).sum(0) / count**2


def energy_score_empirical(
    pred: Tensor,
    truth: Tensor,
    pred_batch_size: int | None = None,
    cdist: Callable[[Tensor, Tensor], Tensor] = torch.cdist,
) -> Tensor:
    """Energy score of vectors, lower is better: ``E|x - truth| - E|x - x'| / 2`` with Euclidean distances.

    Gneiting & Raftery 2007, eq. 22, with the sign turned. :func:`crps_empirical` in one dimension.

    Args:
        pred: draws of vectors of length D, shape (..., num_samples, D).
        truth: what came, shape (..., D) or (..., num_observations, D).
        pred_batch_size: draws whose distances are held at a time, a bound on memory; None for all.
        cdist: distances between the rows of two matrices.

    Returns:
        Scores, shape (...) or (..., num_observations).

    Raises:
        InferenceError: the shapes do not belong together.

    Example:
        >>> energy_score_empirical(torch.zeros(5, 2), torch.tensor([3.0, 4.0]))
        tensor(5.)
    """
    is_single = truth.dim() == pred.dim() - 1
    if not is_single and truth.dim() != pred.dim():
        raise InferenceError(
            f"energy_score_empirical: expected truth with as many dimensions as the draws or one less, got "
            f"{tuple(truth.shape)} for draws {tuple(pred.shape)}; the last two of these are draws and entries"
        )
    rows = truth.unsqueeze(-2) if is_single else truth
    count = pred.shape[-2]
    parts = pred.split(pred_batch_size or count, dim=-2)
    error = torch.stack([cdist(part, rows).sum(-2) for part in parts]).sum(0) / count
    spread = torch.stack([cdist(a, b).sum((-1, -2)) for a in parts for b in parts]).sum(0) / count**2
    score = error - 0.5 * spread.unsqueeze(-1)
    return score.squeeze(-1) if is_single else score


def weighed_quantile(
    input: Tensor, probs: float | Sequence[float] | Tensor, log_weights: Tensor, dim: int = 0
) -> Tensor:
    """Quantiles of weighted draws along ``dim``, interpolated linearly; for equal weights :func:`quantile`.

    Args:
        input: the draws.
        probs: probabilities in [0, 1].
        log_weights: log-weights of the draws, not normalised, shape (num_samples,).
        dim: the dimension of the draws; it then counts the probabilities.

    Raises:
        InferenceError: a probability is out of range, or there is not one weight a draw.

    Example:
        >>> weighed_quantile(torch.tensor([10.0, 50.0, 40.0]), 0.2, torch.tensor([0.4, 0.5, 0.1]).log())
        tensor(40.4000)
    """
    p = torch.as_tensor(probs, dtype=input.dtype, device=input.device)
    if bool(((p < 0) | (p > 1)).any()):
        raise InferenceError(f"weighed_quantile 'probs': expected values in [0, 1], got {p.tolist()}")
    if log_weights.shape != (input.shape[dim],):
        raise InferenceError(
            f"weighed_quantile 'log_weights': expected shape {(input.shape[dim],)}, one a draw, got "
            f"{tuple(log_weights.shape)}"
        )
    values, order = input.movedim(dim, -1).sort(-1)
    weights = (log_weights - log_weights.max()).exp().to(input.dtype)[order]
    # The lowest draw is at probability 0 and the highest at 1; each weight is the way to its draw.
    places = weights.cumsum(-1) - weights[..., :1]
    places = places / places[..., -1:].clamp(min=torch.finfo(input.dtype).tiny)
    wanted = p.reshape(-1).expand(*values.shape[:-1], p.numel()).contiguous()
    high = torch.searchsorted(places.contiguous(), wanted).clamp(1, max(values.shape[-1] - 1, 1))
    high = high.clamp(max=values.shape[-1] - 1)
    low = (high - 1).clamp(min=0)
    left, right = places.gather(-1, low), places.gather(-1, high)
    part = ((wanted - left) / (right - left).clamp(min=torch.finfo(input.dtype).tiny)).clamp(0.0, 1.0)
    found = torch.lerp(values.gather(-1, low), values.gather(-1, high), part)
    return found.movedim(-1, dim) if p.dim() else found.squeeze(-1)


def resample(input: Tensor, num_samples: int, dim: int = 0, replacement: bool = False) -> Tensor:
    """Draw entries along ``dim`` at random.

    Args:
        input: what to draw from.
        num_samples: how many.
        dim: the dimension drawn from.
        replacement: whether one entry may come several times.

    Raises:
        InferenceError: there are fewer entries than wanted without replacement.

    Example:
        >>> resample(torch.arange(3.0), 3).sort().values
        tensor([0., 1., 2.])
    """
    count = input.shape[dim]
    if num_samples > count and not replacement:
        raise InferenceError(
            f"resample: expected num_samples <= {count}, the entries along dim {dim}, got {num_samples}; "
            "give replacement=True"
        )
    index = torch.randint(count, (num_samples,)) if replacement else torch.randperm(count)[:num_samples]
    return input.index_select(dim, index.to(input.device))
