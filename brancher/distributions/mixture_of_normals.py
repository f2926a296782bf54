"""Mixtures of diagonal normal laws whose draws have pathwise gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import to_tensors
from brancher.distributions.shapes import Size, broadcast
from brancher.distributions.special import HALF_LOG_2PI, normal_cdf
from brancher.errors import DistributionError

_VECTORS = constraints.independent(constraints.real, 2)
_POSITIVE_VECTOR = constraints.independent(constraints.positive, 1)
_POSITIVE_VECTORS = constraints.independent(constraints.positive, 2)


class MixtureOfDiagNormals(Distribution):
    """Mixture of K normal vectors with independent coordinates.

    Draws are differentiable in every parameter, the weights included: given the coordinates before
    it, each coordinate is an implicit function of the parameters through its conditional
    distribution function (Graves 2016, arXiv:1607.05690).

    Args:
        locs: means, shape B + (K, D).
        coord_scale: standard deviations, shape B + (K, D); > 0.
        component_logits: log-weights, normalised here, shape B + (K,).

    Example:
        >>> d = MixtureOfDiagNormals(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1), torch.zeros(2))
        >>> d.mean, d.variance
        (tensor([0.]), tensor([2.]))
    """

    has_rsample = True
    support = constraints.real_vector
    arg_constraints: dict[str, constraints.Constraint] = {
        "locs": _VECTORS,
        "coord_scale": _POSITIVE_VECTORS,
        "component_logits": constraints.real_vector,
    }

    def __init__(
        self,
        locs: torch.Tensor,
        coord_scale: torch.Tensor,
        component_logits: torch.Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.locs, self.coord_scale, self.component_logits = to_tensors(
            self, locs=locs, coord_scale=coord_scale, component_logits=component_logits
        )
        self._finish(self.locs, self.coord_scale, validate_args)

    def _finish(self, locs: torch.Tensor, scales: torch.Tensor, validate_args: bool | None) -> None:
        """Keep the K components' means and scales, and the shapes that follow."""
        logits = self.component_logits
        name = f"{type(self).__name__} locs, scales"
        shape = broadcast(name, locs.shape, scales.shape)
        if len(shape) < 2 or logits.dim() < 1 or logits.shape[-1] != shape[-2]:
            raise DistributionError(
                f"{type(self).__name__}: expected means and scales of shape (..., K, D) and "
                f"'component_logits' of shape (..., K), got {tuple(locs.shape)}, {tuple(scales.shape)} and "
                f"{tuple(logits.shape)}"
            )
        batch = broadcast("component_logits", shape[:-2], logits.shape[:-1])
        self._locs, self._scales = (t.expand(batch + shape[-2:]) for t in (locs, scales))
        self._log_weights = logits.log_softmax(-1).expand(batch + logits.shape[-1:])
        Distribution.__init__(self, batch, shape[-1:], validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> MixtureOfDiagNormals:
        """Return a copy with the batch dimensions expanded to ``batch_shape``."""
        new: MixtureOfDiagNormals = self.__new__(type(self)) if _instance is None else _instance
        batch = torch.Size(batch_shape)
        new.__dict__.update(self.__dict__)
        inner = self._locs.shape[-2:]
        new._locs, new._scales = self._locs.expand(batch + inner), self._scales.expand(batch + inner)
        new._log_weights = self._log_weights.expand(batch + inner[:1])
        new._batch_shape = batch
        return new

    def _log_components(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density of every coordinate under every component, shape S + B + (K, D)."""
        z = (value.unsqueeze(-2) - self._locs) / self._scales
        return -0.5 * z * z - self._scales.log() - HALF_LOG_2PI

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        return (self._log_components(value).sum(-1) + self._log_weights).logsumexp(-1)

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw a component, then its vector."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            weights = self._log_weights.exp().expand(shape[:-1] + self._log_weights.shape[-1:])
            picked = torch.multinomial(weights.reshape(-1, weights.shape[-1]), 1).reshape(shape[:-1])
            index = picked[..., None, None].expand((*shape[:-1], 1, shape[-1]))
            full = shape[:-1] + self._locs.shape[-2:]
            loc = self._locs.expand(full).gather(-2, index).squeeze(-2)
            scale = self._scales.expand(full).gather(-2, index).squeeze(-2)
            return loc + scale * torch.randn(shape, dtype=loc.dtype, device=loc.device)

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw differentiably, one coordinate after another."""
        fixed = self.sample(sample_shape)
        log_weights, moving = self._log_weights, []
        for d in range(fixed.shape[-1]):
            loc, scale = self._locs[..., d], self._scales[..., d]
            weights = log_weights.softmax(-1)
            z = (fixed[..., d : d + 1] - loc) / scale
            below = (weights * normal_cdf(z)).sum(-1)
            density = (weights * (-0.5 * z * z - HALF_LOG_2PI).exp() / scale).sum(-1).detach()
            # Zero in value; its gradient is that of the quantile at a fixed probability.
            drift = (below - below.detach()) / density.clamp(min=torch.finfo(density.dtype).tiny)
            x = fixed[..., d] - drift
            z = (x.unsqueeze(-1) - loc) / scale
            log_weights = log_weights - 0.5 * z * z - scale.log()
            moving.append(x)
        return torch.stack(moving, -1)

    @property
    def mean(self) -> torch.Tensor:
        return (self._log_weights.exp().unsqueeze(-1) * self._locs).sum(-2)

    @property
    def variance(self) -> torch.Tensor:
        spread = self._scales**2 + (self._locs - self.mean.unsqueeze(-2)) ** 2
        return (self._log_weights.exp().unsqueeze(-1) * spread).sum(-2)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """The coordinates follow from ``coord_scale`` alone."""
        dims = {name: constraint.event_dim for name, constraint in cls.arg_constraints.items()}
        batches = [torch.Size(shape)[: len(shape) - dims[name]] for name, shape in arg_shapes.items()]
        return broadcast(cls.__name__, *batches), torch.Size(arg_shapes["coord_scale"])[-1:]


class MixtureOfDiagNormalsSharedCovariance(MixtureOfDiagNormals):
    """Mixture of K normal vectors that share their standard deviations.

    Args:
        locs: means, shape B + (K, D).
        coord_scale: standard deviations, shape B + (D,); > 0.
        component_logits: log-weights, normalised here, shape B + (K,).

    Example:
        >>> locs = torch.tensor([[-1.0], [1.0]])
        >>> MixtureOfDiagNormalsSharedCovariance(locs, torch.ones(1), torch.zeros(2)).variance
        tensor([2.])
    """

    arg_constraints = {**MixtureOfDiagNormals.arg_constraints, "coord_scale": _POSITIVE_VECTOR}

    def _finish(self, locs: torch.Tensor, scales: torch.Tensor, validate_args: bool | None) -> None:
        super()._finish(locs, scales.unsqueeze(-2), validate_args)


class GaussianScaleMixture(MixtureOfDiagNormals):
    """Mixture of K normal vectors around zero that differ by a factor in scale.

    Args:
        coord_scale: standard deviations, shape B + (D,); > 0.
        component_logits: log-weights, normalised here, shape B + (K,).
        component_scale: factor of each component, shape B + (K,); > 0.

    Example:
        >>> GaussianScaleMixture(torch.ones(2), torch.zeros(2), torch.tensor([1.0, 3.0])).variance
        tensor([5., 5.])
    """

    arg_constraints = {
        "coord_scale": _POSITIVE_VECTOR,
        "component_logits": constraints.real_vector,
        "component_scale": _POSITIVE_VECTOR,
    }

    def __init__(
        self,
        coord_scale: torch.Tensor,
        component_logits: torch.Tensor,
        component_scale: torch.Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.coord_scale, self.component_logits, self.component_scale = to_tensors(
            self,
            coord_scale=coord_scale,
            component_logits=component_logits,
            component_scale=component_scale,
        )
        scales = self.component_scale.unsqueeze(-1) * self.coord_scale.unsqueeze(-2)
        self._finish(torch.zeros_like(scales), scales, validate_args)
