"""MultivariateStudentT: a normal vector divided by the root of a chi-square."""

from __future__ import annotations

import torch
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.multivariate import half_log_det, squared_distance
from brancher.distributions.parameters import Number, expand_parameters, to_tensors
from brancher.distributions.shapes import Size, broadcast
from brancher.distributions.special import HALF_LOG_2PI, stirling_remainder
from brancher.errors import DistributionError


class MultivariateStudentT(Distribution):
    """Student's t law on vectors, with one degree-of-freedom parameter for the whole vector.

    Args:
        df: degrees of freedom, shape B; > 0.
        loc: location, shape B + (n,).
        scale_tril: Cholesky factor of the scale matrix, shape B + (n, n). The covariance is
            ``df / (df - 2)`` times the scale matrix.

    Example:
        >>> d = MultivariateStudentT(3.0, torch.zeros(2), torch.eye(2))
        >>> d.variance
        tensor([3., 3.])
    """

    has_rsample = True
    df: torch.Tensor
    loc: torch.Tensor
    scale_tril: torch.Tensor
    support = constraints.real_vector
    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
    }

    def __init__(
        self,
        df: Number,
        loc: torch.Tensor,
        scale_tril: torch.Tensor,
        validate_args: bool | None = None,
    ) -> None:
        df, loc, scale_tril = to_tensors(self, df=df, loc=loc, scale_tril=scale_tril)
        n = _check_size(loc, scale_tril)
        batch_shape = broadcast("scale_tril", df.shape, loc.shape[:-1], scale_tril.shape[:-2])
        self.df = df.expand(batch_shape)
        self.loc = loc.expand((*batch_shape, n))
        self.scale_tril = scale_tril.expand((*batch_shape, n, n))
        super().__init__(batch_shape, torch.Size((n,)), validate_args)

    expand = expand_parameters

    @property
    def covariance_matrix(self) -> torch.Tensor:
        """The scale matrix ``scale_tril @ scale_tril.mT`` (the covariance only for large ``df``)."""
        return self.scale_tril @ self.scale_tril.mT

    @property
    def precision_matrix(self) -> torch.Tensor:
        """Inverse of the scale matrix."""
        return torch.cholesky_inverse(self.scale_tril)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably: a normal vector over the root of a chi-square per degree of freedom."""
        shape = self._extended_shape(torch.Size(sample_shape))
        half_df = 0.5 * self.df.expand(shape[:-1])
        gamma = torch._standard_gamma(half_df).clamp(min=torch.finfo(self.loc.dtype).tiny)
        normal = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        scaled = normal * (half_df / gamma).sqrt().unsqueeze(-1)
        noise: torch.Tensor = (self.scale_tril @ scaled.unsqueeze(-1)).squeeze(-1)
        return self.loc + noise

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        n, half_df = self.event_shape[0], 0.5 * self.df
        distance = squared_distance(self.scale_tril, value - self.loc)
        log_kernel = -(half_df + 0.5 * n) * (distance / self.df).log1p()
        log_det = half_log_det(self.scale_tril)
        constant = _log_gamma_ratio(half_df, 0.5 * n) - n * HALF_LOG_2PI
        return torch.add(log_kernel - log_det, constant)

    @property
    def mean(self) -> torch.Tensor:
        return torch.where((self.df > 1.0).unsqueeze(-1), self.loc, torch.nan)

    @property
    def mode(self) -> torch.Tensor:
        return self.loc

    @property
    def variance(self) -> torch.Tensor:
        factor = torch.where(self.df > 2.0, self.df / (self.df - 2.0), torch.inf)
        factor = torch.where(self.df > 1.0, factor, torch.nan)
        return self.scale_tril.square().sum(-1) * factor.unsqueeze(-1)


def _log_gamma_ratio(a: torch.Tensor, h: float) -> torch.Tensor:
    """``log Γ(a + h) - log Γ(a) - h log a``, which vanishes for large a instead of cancelling."""
    remainder = stirling_remainder(a + h) - stirling_remainder(a)
    return (a + h - 1.0) * (h / a).log1p() - h + remainder


def _check_size(loc: torch.Tensor, scale_tril: torch.Tensor) -> int:
    n = loc.shape[-1] if loc.dim() else -1
    if n < 0 or scale_tril.dim() < 2 or scale_tril.shape[-2:] != (n, n):
        raise DistributionError(
            "MultivariateStudentT: expected 'loc' of shape (..., n) and 'scale_tril' of shape (..., n, n), "
            f"got {tuple(loc.shape)} and {tuple(scale_tril.shape)}; "
            "reshape them"
        )
    return n
