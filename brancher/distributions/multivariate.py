"""Normal laws of vectors: MultivariateNormal, LowRankMultivariateNormal, LogisticNormal."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributions as td
from torch.distributions.utils import lazy_property

from brancher.distributions.algebra import Independent
from brancher.distributions.base import Distribution
from brancher.distributions.normal import Normal
from brancher.distributions.parameters import (
    Number,
    expand_parameters,
    held,
    name_of,
    one_of,
    promote,
    to_tensors,
)
from brancher.distributions.shapes import Size, broadcast_shapes
from brancher.distributions.special import HALF_LOG_2PI, cholesky
from brancher.errors import DistributionError


def squared_distance(tril: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """Return ``|tril^-1 difference|^2``, shape of ``difference`` without its last dimension.

    Args:
        tril: lower-triangular factor, shape B + (D, D).
        difference: shape S + B + (D,).
    """
    if tril.dim() == 2:
        # One factor for many vectors: one solve with many right-hand sides.
        flat = difference.reshape(-1, difference.shape[-1])
        solved: torch.Tensor = torch.linalg.solve_triangular(tril, flat.mT, upper=False)
        return solved.square().sum(0).reshape(difference.shape[:-1])
    solved = torch.linalg.solve_triangular(tril, difference.unsqueeze(-1), upper=False)
    return solved.squeeze(-1).square().sum(-1)


def half_log_det(tril: torch.Tensor) -> torch.Tensor:
    """Return ``log det(tril)``, half the log-determinant of ``tril @ tril.mT``."""
    return tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def tril_of_precision(precision: torch.Tensor) -> torch.Tensor:
    """Return the Cholesky factor of the inverse without forming the inverse."""
    flipped = cholesky(precision.flip((-2, -1)))
    tril_inverse = flipped.flip((-2, -1)).mT
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    tril: torch.Tensor = torch.linalg.solve_triangular(tril_inverse, identity, upper=False)
    return tril


def check_matrix(family: object, name: str, matrix: torch.Tensor) -> None:
    """Refuse anything but a batch of square matrices."""
    if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise DistributionError(
            f"{name_of(family)}: expected parameter '{name}' as a square matrix or a batch of them, got "
            f"shape {tuple(matrix.shape)}; "
            "reshape it, or use torch.diag_embed of a vector"
        )


def _check_vector(family: object, loc: torch.Tensor) -> None:
    if loc.dim() < 1:
        raise DistributionError(
            f"{name_of(family)}: expected parameter 'loc' with at least one dimension, got shape (); "
            "pass a vector of length D"
        )


class MultivariateNormal(td.MultivariateNormal, Distribution):
    """Normal law of a vector of length D, given by exactly one of three matrices.

    Args:
        loc: mean, shape B + (D,).
        covariance_matrix: positive definite, shape B + (D, D).
        precision_matrix: its inverse.
        scale_tril: its Cholesky factor; the cheapest to give.

    Example:
        >>> MultivariateNormal(torch.zeros(2), scale_tril=torch.eye(2)).log_prob(torch.zeros(2))
        tensor(-1.8379)
    """

    def __init__(
        self,
        loc: torch.Tensor,
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
        loc, matrix = to_tensors(self, loc=loc, **{name: matrices[name]})
        _check_vector(self, loc)
        check_matrix(self, name, matrix)
        if loc.shape[-1] not in (1, matrix.shape[-1]):
            raise DistributionError(
                f"{name_of(self)}: expected parameters 'loc' and '{name}' of one size, got shapes "
                f"{tuple(loc.shape)} and {tuple(matrix.shape)}; "
                "give loc one entry for each row"
            )
        loc_shape = self.infer_shapes(**{"loc": loc.shape, name: matrix.shape})
        batch_shape, event_shape = loc_shape[0], matrix.shape[-1:]
        self.loc = loc.expand(batch_shape + event_shape)
        self.__dict__[name] = matrix.expand(batch_shape + event_shape + event_shape)
        Distribution.__init__(self, batch_shape, event_shape, validate_args)
        if name == "scale_tril":
            self._unbroadcasted_scale_tril = matrix
        elif name == "covariance_matrix":
            self._unbroadcasted_scale_tril = cholesky(matrix)
        else:
            self._unbroadcasted_scale_tril = tril_of_precision(matrix)

    expand = expand_parameters

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        tril = self._unbroadcasted_scale_tril
        distance = squared_distance(tril, value - self.loc)
        return -0.5 * distance - half_log_det(tril) - self.event_shape[0] * HALF_LOG_2PI


class LowRankMultivariateNormal(td.LowRankMultivariateNormal, Distribution):
    """Normal law of a vector with covariance ``cov_factor @ cov_factor.mT + diag(cov_diag)``.

    Args:
        loc: mean, shape B + (D,).
        cov_factor: shape B + (D, R).
        cov_diag: shape B + (D,); > 0.

    Example:
        >>> LowRankMultivariateNormal(torch.zeros(3), torch.ones(3, 1), torch.ones(3)).event_shape
        torch.Size([3])
    """

    def __init__(
        self,
        loc: torch.Tensor,
        cov_factor: torch.Tensor,
        cov_diag: torch.Tensor,
        validate_args: bool | None = None,
    ) -> None:
        loc, cov_factor, cov_diag = to_tensors(self, loc=loc, cov_factor=cov_factor, cov_diag=cov_diag)
        _check_vector(self, loc)
        size = loc.shape[-1:]
        if cov_factor.dim() < 2 or cov_factor.shape[-2:-1] != size or cov_diag.shape[-1:] != size:
            raise DistributionError(
                f"LowRankMultivariateNormal: expected parameters 'cov_factor' of shape B + ({size[0]}, R) "
                f"and 'cov_diag' of shape B + ({size[0]},) to fit 'loc' of shape {tuple(loc.shape)}, got "
                f"{tuple(cov_factor.shape)} and {tuple(cov_diag.shape)}; "
                "reshape them"
            )
        shapes = {"loc": loc.shape, "cov_factor": cov_factor.shape, "cov_diag": cov_diag.shape}
        batch_shape, _ = self.infer_shapes(**shapes)
        self.loc = loc.expand(batch_shape + size)
        self.cov_factor = cov_factor.expand(batch_shape + cov_factor.shape[-2:])
        self.cov_diag = cov_diag.expand(batch_shape + size)
        self._unbroadcasted_cov_factor = cov_factor
        self._unbroadcasted_cov_diag = cov_diag
        Distribution.__init__(self, batch_shape, size, validate_args)
        weighted = cov_factor.mT / cov_diag.unsqueeze(-2)
        identity = torch.eye(cov_factor.shape[-1], dtype=cov_factor.dtype, device=cov_factor.device)
        self._capacitance_tril = cholesky(weighted @ cov_factor + identity)

    expand = expand_parameters

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Shapes from those of ``loc``, ``cov_factor`` and ``cov_diag``."""
        own = {"loc": 1, "cov_factor": 2, "cov_diag": 1}
        batch = [shape[: len(shape) - own[name]] for name, shape in arg_shapes.items()]
        return broadcast_shapes(*batch), torch.Size(arg_shapes["loc"][-1:])


class LogisticNormal(td.LogisticNormal, Distribution):
    """Law of a probability vector of length K + 1: a stick-broken normal vector of length K.

    Args:
        loc: mean of the normal, shape B + (K,).
        scale: its standard deviation; > 0.

    Example:
        >>> LogisticNormal(torch.zeros(2), 1.0).event_shape
        torch.Size([3])
    """

    loc: torch.Tensor = held()
    scale: torch.Tensor = held()
    # The normal's coordinates make up one event.
    arg_constraints = {
        "loc": td.constraints.real_vector,
        "scale": td.constraints.independent(td.constraints.positive, 1),
    }

    def __init__(self, loc: Number, scale: Number, validate_args: bool | None = None) -> None:
        loc, scale = promote(self, loc=loc, scale=scale)
        if not loc.dim():
            loc, scale = loc.reshape(1), scale.reshape(1)
        self.loc, self.scale = loc, scale
        Distribution.__init__(self, loc.shape[:-1], torch.Size([loc.shape[-1] + 1]), validate_args)

    expand = expand_parameters

    @lazy_property
    def base_dist(self) -> Any:
        """The normal vector."""
        return Independent(Normal(self.loc, self.scale, validate_args=False), 1)

    @lazy_property
    def transforms(self) -> Any:
        """The breaking of the stick."""
        return [td.StickBreakingTransform()]

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Shapes from those of ``loc`` and ``scale``; a draw is one longer than they are."""
        shape = broadcast_shapes((1,), *arg_shapes.values())
        return shape[:-1], torch.Size([shape[-1] + 1])
