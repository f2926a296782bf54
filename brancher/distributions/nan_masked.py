"""Normal laws that take NaN as "not observed" and integrate it out."""

from __future__ import annotations

import torch

from brancher.distributions.multivariate import MultivariateNormal, half_log_det, squared_distance
from brancher.distributions.normal import Normal
from brancher.distributions.special import HALF_LOG_2PI


class NanMaskedNormal(Normal):
    """Normal law whose log-density is 0 where the value is NaN.

    Args:
        loc: mean.
        scale: standard deviation; > 0.

    Example:
        >>> NanMaskedNormal(0.0, 1.0).log_prob(torch.tensor([0.0, float("nan")]))
        tensor([-0.9189,  0.0000])
    """

    takes_nan = True

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, 0 where the value is NaN."""
        if not isinstance(value, torch.Tensor):
            self._validate_sample(value)
        is_missing = value.isnan()
        log_prob = super().log_prob(torch.where(is_missing, 0.0, value))
        return torch.where(is_missing, 0.0, log_prob)


class NanMaskedMultivariateNormal(MultivariateNormal):
    """Multivariate normal law whose NaN entries are integrated out, row by row.

    The density of the observed entries is that of a normal law in which the missing ones are
    independent and standard, less their share of the constant.

    Args:
        loc: mean, shape B + (D,).
        covariance_matrix: shape B + (D, D); or
        precision_matrix: its inverse; or
        scale_tril: its Cholesky factor.

    Example:
        >>> d = NanMaskedMultivariateNormal(torch.zeros(2), torch.eye(2))
        >>> d.log_prob(torch.tensor([0.0, float("nan")]))
        tensor(-0.9189)
    """

    takes_nan = True

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density of the entries that are not NaN, in nats; 0 where all are."""
        if not isinstance(value, torch.Tensor):
            self._validate_sample(value)
        is_missing = value.isnan()
        if self._validate_args:
            self._validate_sample(torch.where(is_missing, 0.0, value))
        is_seen = (~is_missing).to(value.dtype)
        difference = torch.where(is_missing, 0.0, value - self.loc)
        both_seen = is_seen.unsqueeze(-1) * is_seen.unsqueeze(-2)
        covariance = both_seen * self.covariance_matrix + torch.diag_embed(1.0 - is_seen)
        tril: torch.Tensor = torch.linalg.cholesky(covariance)
        return -0.5 * squared_distance(tril, difference) - half_log_det(tril) - HALF_LOG_2PI * is_seen.sum(-1)
