"""``Radial``: a flow that pulls towards a point, or pushes away from it."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import softplus

from brancher.distributions.flows.module import TransformModule


class Radial(TransformModule):
    """``y = x + beta (x - x0) / (alpha + |x - x0|)``.

    Rezende & Mohamed 2015, arXiv:1505.05770, eq. 14, with ``alpha > 0`` and ``beta > -alpha``, which makes
    the map a bijection (appendix A.2). The inverse solves a quadratic equation for the distance.

    Args:
        input_dim: length of the vector.

    Example:
        >>> from brancher.distributions.transforms import radial
        >>> flow, x = radial(3), torch.randn(5, 3)
        >>> torch.allclose(flow.inv(flow(x)), x, atol=1e-5)
        True
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.x0 = nn.Parameter(torch.randn(input_dim) / input_dim**0.5)
        self.alpha_prime = nn.Parameter(torch.zeros(()))
        self.beta_prime = nn.Parameter(torch.zeros(()))

    def free_numbers(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The centre, shape (..., d), and alpha and beta before they are made positive, shape (...)."""
        return self.x0, self.alpha_prime, self.beta_prime

    def _numbers(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x0, alpha, beta = self.free_numbers()
        alpha = softplus(alpha).unsqueeze(-1)
        return x0, alpha, softplus(beta).unsqueeze(-1) - alpha

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        x0, alpha, beta = self._numbers()
        away = x - x0
        y: torch.Tensor = x + beta * away / (alpha + away.norm(dim=-1, keepdim=True))
        return y

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        x0, alpha, beta = self._numbers()
        away = y - x0
        far = away.norm(dim=-1, keepdim=True)
        half = (alpha + beta - far) / 2.0
        distance = (half.square() + alpha * far).sqrt() - half
        x: torch.Tensor = x0 + away / (1.0 + beta / (alpha + distance))
        return x

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        x0, alpha, beta = self._numbers()
        distance = (x - x0).norm(dim=-1, keepdim=True)
        across = torch.log1p(beta / (alpha + distance))
        along = torch.log1p(beta * alpha / (alpha + distance).square())
        return ((x.shape[-1] - 1) * across + along).squeeze(-1)


def radial(input_dim: int) -> Radial:
    """Make a :class:`Radial`."""
    return Radial(input_dim)
