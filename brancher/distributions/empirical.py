"""Empirical: a weighted set of draws as a law."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from brancher.distributions.base import Distribution
from brancher.distributions.shapes import Size, check_event
from brancher.errors import DistributionError, DistributionTypeError


class Empirical(Distribution):
    """Draws with weights, over which the law puts its mass.

    Args:
        samples: the draws, shape B + (N,) + E.
        log_weights: unnormalised log-weights, shape B + (N,); equal ones when None, with N the
            first dimension of ``samples``.

    Raises:
        DistributionError: the shape of ``log_weights`` does not begin that of ``samples``.

    Example:
        >>> d = Empirical(torch.tensor([1.0, 2.0, 2.0]), torch.zeros(3))
        >>> d.log_prob(torch.tensor([2.0, 3.0])).exp()
        tensor([0.6667, 0.0000])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        samples: torch.Tensor,
        log_weights: torch.Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._samples, weights = _check(samples, log_weights)
        # All weights -inf would be a law without mass; log_softmax then gives NaN, as it should.
        self._log_weights = weights
        self._log_masses = weights.log_softmax(-1)
        cut = weights.dim()
        super().__init__(samples.shape[: cut - 1], samples.shape[cut:], validate_args)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Every value of the event's shape; the mass is zero away from the draws."""
        return constraints.independent(constraints.real, self.event_dim)

    @property
    def sample_size(self) -> int:
        """Number N of weighted draws."""
        return self._log_weights.shape[-1]

    @property
    def log_weights(self) -> torch.Tensor:
        """The log-weights as they were given."""
        return self._log_weights

    def expand(self, batch_shape: Size, _instance: Any = None) -> Empirical:
        """Return a copy with the batch dimensions expanded to ``batch_shape``."""
        shape = torch.Size(batch_shape)
        tail = self._samples.shape[len(self.batch_shape) :]
        new = Empirical(self._samples.expand(shape + tail), self._log_weights.expand(shape + tail[:1]))
        self._copy_switch(new)
        return new

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw with replacement, in proportion to the weights."""
        shape = torch.Size(sample_shape) + self.batch_shape
        masses = self._log_masses.detach().exp()
        flat = masses.reshape(-1, self.sample_size)
        count = torch.Size(sample_shape).numel()
        index = torch.multinomial(flat, max(count, 1), replacement=True)[:, :count]
        index = index.mT.reshape(shape + (1,) * (1 + self.event_dim))
        aligned = self._samples.detach().expand(torch.Size(sample_shape) + self._samples.shape)
        picked = index.expand((*shape, 1, *self.event_shape))
        return aligned.gather(len(shape), picked).squeeze(len(shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log of the mass of all draws that equal the value, shape sample_shape + B."""
        if self._validate_args:
            check_event(self, value)
        is_same = value.unsqueeze(-1 - self.event_dim) == self._samples
        for _ in range(self.event_dim):
            is_same = is_same.all(-1)
        return torch.where(is_same, self._log_masses, -torch.inf).logsumexp(-1)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """The weights' shape tells which dimension of the samples counts the draws."""
        samples = torch.Size(arg_shapes["samples"])
        n = len(arg_shapes.get("log_weights", samples[:1]))
        return samples[: n - 1], samples[n:]

    def _aligned_masses(self) -> torch.Tensor:
        shape = self._log_masses.shape + (1,) * self.event_dim
        return self._log_masses.exp().reshape(shape)

    @property
    def mean(self) -> torch.Tensor:
        return (self._samples * self._aligned_masses()).sum(len(self.batch_shape))

    @property
    def variance(self) -> torch.Tensor:
        dim = len(self.batch_shape)
        centred = self._samples - self.mean.unsqueeze(dim)
        return (centred**2 * self._aligned_masses()).sum(dim)


def _check(samples: Any, log_weights: Any) -> tuple[torch.Tensor, torch.Tensor]:
    for name, value in (("samples", samples), ("log_weights", log_weights)):
        if not (isinstance(value, torch.Tensor) or (value is None and name == "log_weights")):
            raise DistributionTypeError(
                f"Empirical: expected parameter '{name}' as a tensor, got {type(value).__name__}; "
                "convert it with torch.as_tensor"
            )
    if log_weights is None:
        dtype = samples.dtype if samples.dtype.is_floating_point else torch.get_default_dtype()
        log_weights = torch.zeros(samples.shape[:1], dtype=dtype, device=samples.device)
    n = log_weights.dim()
    if n < 1 or log_weights.shape != samples.shape[:n]:
        raise DistributionError(
            "Empirical: expected 'log_weights' of a shape that begins the shape of 'samples' "
            f"{tuple(samples.shape)}, got {tuple(log_weights.shape)}; its last dimension counts the draws"
        )
    return samples, log_weights
