"""Bijections of vectors that normalising flows are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints as torch_constraints
from torch.distributions.transforms import Transform
from torch.nn.functional import softplus

from brancher.distributions.constraints import same_value

#: Halvings of the interval that holds an inverse; more do not change double precision.
_HALVINGS = 55


class PlanarTransform(Transform):
    """``y = x + u tanh(w . x + b)``, bent at one plane (Rezende and Mohamed 2015, arXiv:1505.05770, eq. 10).

    ``u`` is moved along ``w`` so that ``w . u > -1``, which makes the map a bijection (appendix A.1). Its
    inverse is found by halving an interval, then by one step of Newton's method, which carries gradients.

    Args:
        weight: ``w``, shape (..., D).
        direction: ``u`` before it is moved, shape (..., D).
        bias: ``b``, shape (...).

    Example:
        >>> f = PlanarTransform(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0]), torch.tensor(0.0))
        >>> x = torch.tensor([0.3, -0.4])
        >>> torch.allclose(f.inv(f(x)), x)
        True
    """

    domain = torch_constraints.real_vector
    codomain = torch_constraints.real_vector
    bijective = True

    def __init__(
        self, weight: torch.Tensor, direction: torch.Tensor, bias: torch.Tensor, cache_size: int = 0
    ) -> None:
        super().__init__(cache_size=cache_size)
        self.weight, self.direction, self.bias = weight, direction, bias
        overlap = (weight * direction).sum(-1)
        square = weight.square().sum(-1)
        # Slope of the bend along the weight, > -1; a weight of zero bends nothing.
        self.bend = torch.where(square > 0, softplus(overlap) - 1.0, 0.0)
        square = square.clamp(min=torch.finfo(weight.dtype).tiny)
        self.moved = direction + ((self.bend - overlap) / square).unsqueeze(-1) * weight

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlanarTransform):
            return False
        return same_value(
            [self.weight, self.direction, self.bias], [other.weight, other.direction, other.bias]
        )

    def __hash__(self) -> int:
        return hash(PlanarTransform)

    def with_cache(self, cache_size: int = 1) -> PlanarTransform:
        """Return the same map with another cache size."""
        return PlanarTransform(self.weight, self.direction, self.bias, cache_size)

    def _along(self, x: torch.Tensor) -> torch.Tensor:
        return (self.weight * x).sum(-1) + self.bias

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.moved * self._along(x).tanh().unsqueeze(-1)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y - self.moved * self._solved(self._along(y)).tanh().unsqueeze(-1)

    def _solved(self, target: torch.Tensor) -> torch.Tensor:
        """The ``s`` with ``s + bend tanh(s) = target``, which increases in ``s``."""
        with torch.no_grad():
            low, high = target - self.bend.abs(), target + self.bend.abs()
            for _ in range(_HALVINGS):
                s = (low + high) / 2
                is_low = s + self.bend * s.tanh() < target
                low, high = torch.where(is_low, s, low), torch.where(is_low, high, s)
            s = (low + high) / 2
        t = s.tanh()
        return s - (s + self.bend * t - target) / (1.0 + self.bend * (1.0 - t.square()))

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``log(1 + w . u (1 - tanh(w . x + b)^2))``."""
        return torch.log1p(self.bend * (1.0 - self._along(x).tanh().square()))


class CenteredSoftmaxTransform(Transform):
    """A vector of n - 1 entries to n probabilities: ``softmax`` of the entries and a 0 behind them.

    A bijection, other than ``softmax`` of n entries. Densities are with respect to the first n - 1
    probabilities, as those of ``Dirichlet``.

    Example:
        >>> CenteredSoftmaxTransform()(torch.zeros(3))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    domain = torch_constraints.real_vector
    codomain = torch_constraints.simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CenteredSoftmaxTransform)

    def __hash__(self) -> int:
        return hash(CenteredSoftmaxTransform)

    def with_cache(self, cache_size: int = 1) -> CenteredSoftmaxTransform:
        """Return the same map with another cache size."""
        return CenteredSoftmaxTransform(cache_size)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.zeros_like(x[..., :1])], -1).softmax(-1)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y[..., :-1].log() - y[..., -1:].log()

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Sum of the logarithms of all n probabilities."""
        return torch.cat([x, torch.zeros_like(x[..., :1])], -1).log_softmax(-1).sum(-1)

    def forward_shape(self, shape: Any) -> torch.Size:
        """One entry more."""
        return torch.Size(shape[:-1]) + (shape[-1] + 1,)

    def inverse_shape(self, shape: Any) -> torch.Size:
        """One entry less."""
        return torch.Size(shape[:-1]) + (shape[-1] - 1,)
