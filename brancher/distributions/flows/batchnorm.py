"""``BatchNorm``: a flow that gives its inputs zero mean and unit variance."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import constraints

from brancher.distributions.flows.module import TransformModule
from brancher.errors import DistributionError


class BatchNorm(TransformModule):
    """``x = (y - mean) / sqrt(variance + epsilon) * gamma + beta``, entry by entry, read from data to noise.

    Dinh et al. 2017, arXiv:1605.08803, section 3.7. In training mode the inverse takes mean and variance from
    the batch it is given, over all dimensions but the last, and moves the running ones towards them;
    so it is that of the forward map in evaluation mode alone (``flow.eval()``).

    Args:
        input_dim: length of the vector.
        momentum: how far one batch moves the running mean and variance, in [0, 1].
        epsilon: added to variances; > 0.

    Raises:
        DistributionError: an argument is out of range; or a batch in training mode has less than two rows.

    Example:
        >>> from brancher.distributions.transforms import BatchNorm
        >>> flow = BatchNorm(2)
        >>> x = flow.inv(5.0 + 3.0 * torch.randn(100, 2))
        >>> bool((x.mean(0).abs() < 1e-5).all())
        True
    """

    domain = constraints.real  # type: ignore[assignment]
    codomain = constraints.real  # type: ignore[assignment]
    moving_mean: torch.Tensor
    moving_variance: torch.Tensor

    def __init__(self, input_dim: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        if not 0.0 <= momentum <= 1.0 or not 0.0 < epsilon < float("inf"):
            raise DistributionError(
                f"BatchNorm: expected momentum in [0, 1] and epsilon > 0, got {momentum} and {epsilon}; 0.1 "
                "and 1e-5 are usual"
            )
        self.input_dim, self.momentum, self.epsilon = input_dim, momentum, epsilon
        self.gamma, self.beta = nn.Parameter(torch.ones(input_dim)), nn.Parameter(torch.zeros(input_dim))
        self.register_buffer("moving_mean", torch.zeros(input_dim))
        self.register_buffer("moving_variance", torch.ones(input_dim))

    @property
    def constrained_gamma(self) -> torch.Tensor:
        """The scale, kept positive; its gradient comes through, so that it can come back."""
        return self.gamma + (self.gamma.clamp(min=0.0) - self.gamma).detach() + 1e-6

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        spread = (self.moving_variance + self.epsilon).sqrt()
        return (x - self.beta) / self.constrained_gamma * spread + self.moving_mean

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        mean, variance = self._moments(y)
        if self.training:
            with torch.no_grad():
                self.moving_mean.lerp_(mean.detach(), self.momentum)
                self.moving_variance.lerp_(variance.detach(), self.momentum)
        return (y - mean) / (variance + self.epsilon).sqrt() * self.constrained_gamma + self.beta

    def _moments(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.training:
            return self.moving_mean, self.moving_variance
        rows = y.reshape(-1, y.shape[-1])
        if len(rows) < 2:
            raise DistributionError(
                f"BatchNorm: expected a batch of at least two rows in training mode, got {len(rows)}; call "
                "eval() to use the running mean and variance"
            )
        return rows.mean(0), rows.var(0)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Logarithms of the slopes dy / dx, shape of ``y``."""
        _, variance = self._moments(y)
        slopes = 0.5 * (variance + self.epsilon).log() - self.constrained_gamma.log()
        return slopes.expand(y.shape)


def batchnorm(input_dim: int, momentum: float = 0.1, epsilon: float = 1e-5) -> BatchNorm:
    """Make a :class:`BatchNorm`."""
    return BatchNorm(input_dim, momentum, epsilon)
