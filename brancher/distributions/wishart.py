"""Wishart."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions.base import Distribution
from brancher.distributions.gamma import Chi2
from brancher.distributions.multivariate import check_matrix, half_log_det, tril_of_precision
from brancher.distributions.parameters import SCALAR, Number, expand_parameters, one_of, to_tensors
from brancher.distributions.shapes import Size, broadcast_shapes
from brancher.distributions.special import cholesky

_LOG_2 = math.log(2.0)


class Wishart(td.Wishart, Distribution):
    """Law of positive definite matrices: the scatter of ``df`` normal vectors of length D.

    Args:
        df: degrees of freedom; > D - 1.
        covariance_matrix: of the vectors, shape B + (D, D); or
        precision_matrix: its inverse; or
        scale_tril: its Cholesky factor.

    Example:
        >>> Wishart(3.0, scale_tril=torch.eye(2)).mean
        tensor([[3., 0.],
                [0., 3.]])
    """

    def __init__(
        self,
        df: Number,
        covariance_matrix: torch.Tensor | None = None,
        precision_matrix: torch.Tensor | None = None,
        scale_tril: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        matrices = {
            "covariance_matrix": covariance_matrix,
            "precision_matrix": precision_matrix,
            "scale_tril": scale_tril,
        }
        name = one_of(self, **matrices)
        degrees, matrix = to_tensors(self, df=df, **{name: matrices[name]})
        check_matrix(self, name, matrix)
        batch_shape, event_shape = self.infer_shapes(**{"df": degrees.shape, name: matrix.shape})
        self.df = degrees.expand(batch_shape)
        self.__dict__[name] = matrix.expand(batch_shape + event_shape)
        Distribution.__init__(self, batch_shape, event_shape, validate_args)
        if name == "scale_tril":
            self._unbroadcasted_scale_tril = matrix
        elif name == "covariance_matrix":
            self._unbroadcasted_scale_tril = cholesky(matrix)
        else:
            self._unbroadcasted_scale_tril = tril_of_precision(matrix)

    expand = expand_parameters

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Shapes from those of ``df`` and the matrix."""
        batch = [shape if name == "df" else shape[:-2] for name, shape in arg_shapes.items()]
        matrix = next(shape for name, shape in arg_shapes.items() if name != "df")
        return broadcast_shapes(*batch), torch.Size(matrix[-2:])

    @lazy_property
    def _dist_chi2(self) -> Any:
        size = self.event_shape[-1]
        step = torch.arange(size, dtype=self.df.dtype, device=self.df.device)
        return Chi2(self.df.unsqueeze(-1) - step, validate_args=False)

    @property
    def mode(self) -> torch.Tensor:
        factor = self.df - self.event_shape[-1] - 1
        factor = torch.where(factor > 0, factor, torch.nan)
        return factor[..., None, None] * self.covariance_matrix

    def rsample(self, sample_shape: Size = SCALAR, max_try_correction: Any = None) -> torch.Tensor:
        """Draw by Bartlett's decomposition, shape sample_shape + B + (D, D)."""
        size = torch.Size(sample_shape)
        shape = self._extended_shape(size)
        diagonal: torch.Tensor = self._dist_chi2.rsample(size).sqrt()
        noise = torch.empty(shape, dtype=diagonal.dtype, device=diagonal.device).normal_()
        factor: torch.Tensor = self._unbroadcasted_scale_tril @ (noise.tril(-1) + diagonal.diag_embed())
        return factor @ factor.mT

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        tril, size, df = self._unbroadcasted_scale_tril, self.event_shape[-1], self.df
        solved: torch.Tensor = torch.linalg.solve_triangular(tril, cholesky(value), upper=False)
        trace = solved.square().sum((-2, -1))
        # det(value) through the same factor: log det(value) = 2 log det(solved) + 2 log det(tril)
        log_det = 2.0 * (half_log_det(solved) + half_log_det(tril))
        normalizer = df * (0.5 * size * _LOG_2 + half_log_det(tril)) + torch.mvlgamma(0.5 * df, size)
        return 0.5 * (df - size - 1.0) * log_det - 0.5 * trace - normalizer
