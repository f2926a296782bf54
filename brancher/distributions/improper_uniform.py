"""ImproperUniform: a flat density on any support."""

from __future__ import annotations

from typing import Any

import torch

from brancher.distributions import constraints
from brancher.distributions.base import Distribution
from brancher.distributions.parameters import expand_parameters
from brancher.distributions.shapes import Size, broadcast_shapes


class ImproperUniform(Distribution):
    """Log-density zero everywhere on ``support``: a flat prior, or the place of a free parameter.

    It can not be drawn from; give it a value through a guide, MCMC or conditioning.

    Args:
        support: where values may lie.
        batch_shape: B.
        event_shape: E; at least as many dimensions as the support's events have.

    Example:
        >>> d = ImproperUniform(constraints.ordered_vector, torch.Size(), torch.Size((3,)))
        >>> d.log_prob(torch.tensor([1.0, 2.0, 3.0]))
        tensor(0.)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        support: Any,
        batch_shape: Size = (),
        event_shape: Size = (),
        validate_args: bool | None = None,
    ) -> None:
        extra = len(event_shape) - support.event_dim
        self._support = constraints.independent(support, extra) if extra > 0 else support
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        """The support given at construction, over the whole event."""
        return self._support

    expand = expand_parameters

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Refuse: a flat density on an unbounded support has no draws."""
        raise NotImplementedError(
            "ImproperUniform: expected a value from a guide, MCMC or conditioning, got a request to "
            "draw one; an improper law has no draws"
        )

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Return zeros of shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        batch = value.shape[: value.dim() - self.event_dim]
        dtype = value.dtype if value.dtype.is_floating_point else torch.get_default_dtype()
        zero = torch.zeros((), dtype=dtype, device=value.device)
        return zero.expand(broadcast_shapes(batch, self.batch_shape))

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Not determined by argument shapes: they are arguments themselves."""
        raise NotImplementedError("ImproperUniform: the shapes are its arguments")
