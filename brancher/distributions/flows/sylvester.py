"""``Sylvester``: a planar flow with as many planes as entries."""

from __future__ import annotations

import torch
from torch import nn

from brancher.distributions.flows.linear import Householder
from brancher.distributions.flows.roots import increasing_root


class Sylvester(Householder):
    """``y = x + Q R tanh(S Q^T x + b)`` with Q a product of reflections, R and S upper-triangular.

    Van den Berg et al. 2018, arXiv:1803.05649, sections 3 and 4 (the Householder variety). The diagonals of
    R and S lie in (-1, 1), which makes the map a bijection. The inverse goes from the last entry of
    ``Q^T x`` to the first.

    Args:
        input_dim: length of the vector.
        count_transforms: how many reflections make up Q, > 0.

    Raises:
        DistributionError: there are no reflections.

    Example:
        >>> from brancher.distributions.transforms import sylvester
        >>> flow, x = sylvester(3), torch.randn(5, 3)
        >>> torch.allclose(flow.inv(flow(x)), x, atol=1e-5)
        True
    """

    def __init__(self, input_dim: int, count_transforms: int = 1) -> None:
        super().__init__(input_dim, count_transforms)
        square, vector = (input_dim, input_dim), (input_dim,)
        self.R_dense, self.S_dense = _small(square), _small(square)
        self.R_diag, self.S_diag, self.b = _small(vector), _small(vector), _small(vector)

    def R(self) -> torch.Tensor:
        """The matrix R, shape (d, d)."""
        return _triangular(self.R_dense, self.R_diag)

    def S(self) -> torch.Tensor:
        """The matrix S, shape (d, d)."""
        return _triangular(self.S_dense, self.S_diag)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        turned = self._reflected(x, True)
        bent = (turned @ self.S().mT + self.b).tanh()
        return x + self._reflected(bent @ self.R().mT, False)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        r, s, target = self.R(), self.S(), self._reflected(y, True)
        turned: list[torch.Tensor] = []
        bent: list[torch.Tensor] = []
        for i in reversed(range(y.shape[-1])):
            shift, rest = self.b[i], target[..., i]
            for later, j in enumerate(range(i + 1, y.shape[-1])):
                shift = shift + s[i, j] * turned[later]
                rest = rest - r[i, j] * bent[later]
            found = self._entry(r[i, i], s[i, i], shift, rest)
            turned.insert(0, found)
            bent.insert(0, (s[i, i] * found + shift).tanh())
        return self._reflected(torch.stack(turned, -1), False)

    def _entry(
        self, r: torch.Tensor, s: torch.Tensor, shift: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """The u with ``u + r tanh(s u + shift) = target``."""

        def function(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            bent = (s * u + shift).tanh()
            return u + r * bent, 1.0 + r * s * (1.0 - bent.square())

        bound = r.detach().abs()
        return increasing_root(function, target, target.detach() - bound, target.detach() + bound)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, by Sylvester's identity: shape of ``x`` without its last dimension."""
        bent = (self._reflected(x, True) @ self.S().mT + self.b).tanh()
        slopes = self.R_diag.tanh() * self.S_diag.tanh()
        return torch.log1p(slopes * (1.0 - bent.square())).sum(-1)


def _small(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.rand(shape) - 0.01)


def _triangular(dense: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
    return dense.triu(1) + diagonal.tanh().diag()


def sylvester(input_dim: int, count_transforms: int | None = None) -> Sylvester:
    """Make a :class:`Sylvester`; with ``input_dim // 2 + 1`` reflections by default."""
    return Sylvester(input_dim, input_dim // 2 + 1 if count_transforms is None else count_transforms)
