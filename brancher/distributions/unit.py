"""Unit: the empty event, whose log-probability is any number."""

from __future__ import annotations

import torch
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.parameters import expand_parameters
from brancher.distributions.shapes import Size, broadcast_shapes


class Unit(Distribution):
    """A trivial law on the empty tensor with an arbitrary log-probability.

    It carries a term into a model's log-joint; ``factor`` is built on it.

    Args:
        log_factor: the log-probability, shape B.
        has_rsample: whether draws count as reparametrised; False makes score-function
            estimators multiply the term.

    Example:
        >>> d = Unit(torch.tensor([-1.5, 2.0]))
        >>> d.sample().shape, d.log_prob(d.sample())
        (torch.Size([2, 0]), tensor([-1.5000,  2.0000]))
    """

    arg_constraints = {"log_factor": constraints.real}
    support = constraints.real_vector

    def __init__(
        self,
        log_factor: torch.Tensor | float,
        *,
        has_rsample: bool | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.log_factor = torch.as_tensor(log_factor)
        self._has_rsample = bool(has_rsample)
        super().__init__(self.log_factor.shape, torch.Size((0,)), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self._has_rsample

    expand = expand_parameters

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Return an empty tensor of shape sample_shape + B + (0,)."""
        return self.log_factor.new_empty(self.shape(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Return an empty tensor of shape sample_shape + B + (0,)."""
        return self.sample(sample_shape)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Return ``log_factor``, whatever the (empty) value."""
        if self._validate_args:
            self._validate_sample(value)
        shape = broadcast_shapes(self.batch_shape, value.shape[:-1])
        return self.log_factor.expand(shape)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """The batch is the factor's shape, the event is empty."""
        return torch.Size(arg_shapes["log_factor"]), torch.Size((0,))
