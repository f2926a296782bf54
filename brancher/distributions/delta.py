"""Delta: all mass on one point."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.shapes import Size, sum_rightmost
from brancher.errors import DistributionError, DistributionTypeError


class Delta(Distribution):
    """All mass on the point ``v``, with a density there that can be set.

    Args:
        v: the point, shape B + E.
        log_density: log-density at ``v``, a number or shape B; inference that computes a density
            by other means (a flow, an importance weight) reports it here.
        event_dim: number of rightmost dimensions of ``v`` that form one event.

    Raises:
        DistributionError: ``log_density`` is neither a number nor of shape B.

    Example:
        >>> Delta(torch.tensor([1.0, 2.0])).log_prob(torch.tensor([1.0, 3.0]))
        tensor([0., -inf])
    """

    has_rsample = True
    arg_constraints = {
        "v": constraints.dependent(is_discrete=False),
        "log_density": constraints.real,
    }

    def __init__(
        self,
        v: torch.Tensor,
        log_density: torch.Tensor | float = 0.0,
        event_dim: int = 0,
        validate_args: bool | None = None,
    ) -> None:
        _check_point(v, event_dim)
        cut = v.dim() - event_dim
        self.v = v
        self.log_density = _density_like(v, log_density, v.shape[:cut])
        super().__init__(v.shape[:cut], v.shape[cut:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Every value of the event's shape; the density is zero away from ``v``."""
        return constraints.independent(constraints.real, self.event_dim)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Delta:
        """Return a copy with the batch dimensions expanded to ``batch_shape``."""
        new: Delta = self.__new__(type(self)) if _instance is None else _instance
        shape = torch.Size(batch_shape)
        new.v = self.v.expand(shape + self.event_shape)
        new.log_density = self.log_density.expand(shape)
        Distribution.__init__(new, shape, self.event_shape)
        self._copy_switch(new)
        return new

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Return ``v`` without its gradient, with the sample dimensions added on the left."""
        return self.rsample(sample_shape).detach()

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Return ``v``, with the sample dimensions added on the left."""
        return self.v.expand(torch.Size(sample_shape) + self.v.shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Return ``log_density`` where the value equals ``v``, -inf elsewhere."""
        if self._validate_args:
            self._validate_sample(value)
        dtype = self.log_density.dtype
        away = sum_rightmost((value != self.v).to(dtype), self.event_dim)
        return torch.where(away > 0, -torch.inf, self.log_density)

    @property
    def mean(self) -> torch.Tensor:
        return self.v

    @property
    def mode(self) -> torch.Tensor:
        return self.v

    @property
    def variance(self) -> torch.Tensor:
        return torch.zeros_like(self.v)

    def entropy(self) -> torch.Tensor:
        """Return ``-log_density``, the entropy with respect to the density that was set."""
        return -self.log_density

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Shapes for ``event_dim=0``, or from the shape of ``log_density`` where it is given."""
        v = torch.Size(arg_shapes["v"])
        batch = torch.Size(arg_shapes.get("log_density", v))
        return v[: len(batch)], v[len(batch) :]


def _check_point(v: Any, event_dim: Any) -> None:
    if not isinstance(v, torch.Tensor):
        raise DistributionTypeError(
            f"Delta: expected parameter 'v' as a tensor, got {type(v).__name__}; "
            "convert it with torch.as_tensor"
        )
    if not isinstance(event_dim, int) or not 0 <= event_dim <= v.dim():
        raise DistributionError(
            f"Delta: expected 0 <= event_dim <= {v.dim()}, the number of dimensions of v "
            f"{tuple(v.shape)}, got {event_dim}; "
            "lower event_dim, or give v more dimensions"
        )


def _density_like(v: torch.Tensor, log_density: Any, batch_shape: torch.Size) -> torch.Tensor:
    if isinstance(log_density, torch.Tensor):
        if log_density.shape != batch_shape:
            raise DistributionError(
                f"Delta: expected parameter 'log_density' of the batch shape {tuple(batch_shape)}, "
                f"got {tuple(log_density.shape)}; v has shape {tuple(v.shape)}, check event_dim"
            )
        return log_density
    if isinstance(log_density, (int, float, Real)):
        dtype = v.dtype if v.dtype.is_floating_point else torch.get_default_dtype()
        return torch.full(batch_shape, float(log_density), dtype=dtype, device=v.device)
    raise DistributionTypeError(
        f"Delta: expected parameter 'log_density' as a tensor or a number, got {type(log_density).__name__}; "
        "convert it with torch.as_tensor"
    )
