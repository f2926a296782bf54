"""Laws of correlation matrices (Lewandowski, Kurowicka & Joe 2009): LKJ and its Cholesky form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions import constraints
from brancher.distributions.base import Distribution
from brancher.distributions.beta import Beta
from brancher.distributions.matrix_transforms import CorrMatrixTransform
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, to_tensors
from brancher.distributions.shapes import Size
from brancher.errors import DistributionError


class LKJCholesky(td.LKJCholesky, Distribution):
    """Law of Cholesky factors of correlation matrices.

    Args:
        dim: size of the matrix; >= 2.
        concentration: 1 is uniform over correlation matrices, more draws towards the identity; > 0.

    Example:
        >>> LKJCholesky(2, 1.0).log_prob(torch.eye(2))
        tensor(-0.6931)
    """

    has_rsample = True

    def __init__(self, dim: int, concentration: Number = 1.0, validate_args: bool | None = None) -> None:
        (self.concentration,) = to_tensors(self, concentration=concentration)
        self.dim = _checked_dim(self, dim)
        shape = self.concentration.shape
        Distribution.__init__(self, shape, torch.Size([dim, dim]), validate_args)

    expand = expand_parameters

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Not determined by argument shapes: ``dim`` is a number."""
        raise NotImplementedError(f"{cls.__name__}: the event shape follows from the number 'dim'")

    @lazy_property
    def _beta(self) -> Any:
        eta = self.concentration.unsqueeze(-1)
        row = torch.arange(1, self.dim, dtype=eta.dtype, device=eta.device)
        return Beta(0.5 * row, eta + 0.5 * (self.dim - 1 - row), validate_args=False)

    def rsample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw by the onion method: each row has a beta squared radius and a uniform direction."""
        size, n = torch.Size(sample_shape), self.dim
        squared_radius = self._beta.rsample(size)
        noise = squared_radius.new_empty((*squared_radius.shape, n - 1)).normal_()
        direction = torch.nn.functional.normalize(noise.tril(), dim=-1, eps=0.0)
        rows = squared_radius.sqrt().unsqueeze(-1) * direction
        diagonal = (1.0 - squared_radius).clamp(min=torch.finfo(rows.dtype).tiny).sqrt()
        below = torch.nn.functional.pad(rows, (0, 1, 1, 0))
        return below + torch.nn.functional.pad(diagonal, (1, 0), value=1.0).diag_embed()

    def sample(self, sample_shape: Size = SCALAR) -> torch.Tensor:
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    @property
    def mean(self) -> torch.Tensor:
        raise NotImplementedError("LKJCholesky: the mean has no closed form here; average draws")

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats with respect to the entries below the diagonal."""
        if self._validate_args:
            self._validate_sample(value)
        eta, n = self.concentration, self.dim
        row = torch.arange(2, n + 1, dtype=eta.dtype, device=eta.device)
        order = 2.0 * (eta - 1.0).unsqueeze(-1) + n - row
        log_diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:].log()
        return (order * log_diagonal).sum(-1) - _log_normalizer(eta, n)


def _log_normalizer(eta: torch.Tensor, n: int) -> torch.Tensor:
    """Integral of the unnormalised density (Lewandowski et al. 2009, p. 1999)."""
    alpha = eta + 0.5 * (n - 1)
    return 0.5 * (n - 1) * math.log(math.pi) + torch.mvlgamma(alpha - 0.5, n - 1) - (n - 1) * alpha.lgamma()


class LKJ(td.TransformedDistribution, Distribution):
    """Law of correlation matrices with density proportional to ``det(value)^(concentration - 1)``.

    Args:
        dim: size of the matrix; >= 2.
        concentration: 1 is uniform, more draws towards the identity; > 0.

    Example:
        >>> LKJ(2, 1.0).log_prob(torch.eye(2))
        tensor(-0.6931)
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_matrix

    def __init__(self, dim: int, concentration: Number = 1.0, validate_args: bool | None = None) -> None:
        (self.concentration,) = to_tensors(self, concentration=concentration)
        self.dim = _checked_dim(self, dim)
        shape = self.concentration.shape
        Distribution.__init__(self, shape, torch.Size([dim, dim]), validate_args)

    expand = expand_parameters

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Not determined by argument shapes: ``dim`` is a number."""
        raise NotImplementedError(f"{cls.__name__}: the event shape follows from the number 'dim'")

    @lazy_property
    def base_dist(self) -> Any:
        """The law of the Cholesky factor."""
        return LKJCholesky(self.dim, self.concentration, validate_args=False)

    @lazy_property
    def transforms(self) -> Any:
        """From the factor to the matrix."""
        return [CorrMatrixTransform()]

    @property
    def mean(self) -> torch.Tensor:
        identity = torch.eye(self.dim, dtype=self.concentration.dtype, device=self.concentration.device)
        return identity.expand(self.batch_shape + self.event_shape)


def _checked_dim(family: object, dim: int) -> int:
    if type(dim) is not int or dim < 2:
        raise DistributionError(
            f"{type(family).__name__}: expected parameter 'dim' as an int >= 2, got {dim!r}; "
            "give the number of variables"
        )
    return dim
