"""A mixture of components of one family."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as td
from torch.distributions import Distribution as TorchDistribution

from brancher.distributions.algebra import expand_wrapper
from brancher.distributions.base import Distribution
from brancher.distributions.shapes import Size, broadcast
from brancher.errors import DistributionError, DistributionTypeError

#: Log of the largest ratio of densities that a gradient reports; exp of it is finite in float32.
_MOST = 80.0


class MixtureSameFamily(td.MixtureSameFamily, Distribution):
    """A draw of one of K components, which are the last batch dimension of one distribution.

    Args:
        mixture_distribution: a Categorical over K, batch shape B or one that broadcasts to it.
        component_distribution: batch shape B + (K,).

    Example:
        >>> from brancher.distributions import Categorical, Normal
        >>> weights = Categorical(torch.tensor([0.5, 0.5]))
        >>> d = MixtureSameFamily(weights, Normal(torch.tensor([-1.0, 1.0]), 1.0))
        >>> d.log_prob(torch.tensor(0.0))
        tensor(-1.4189)
    """

    def __init__(
        self,
        mixture_distribution: td.Categorical,
        component_distribution: TorchDistribution,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(mixture_distribution, td.Categorical):
            raise DistributionTypeError(
                "MixtureSameFamily: expected mixture_distribution as a Categorical, got "
                f"{type(mixture_distribution).__name__}; "
                "write Categorical(probs)"
            )
        if not isinstance(component_distribution, TorchDistribution):
            raise DistributionTypeError(
                "MixtureSameFamily: expected component_distribution as a distribution, got "
                f"{type(component_distribution).__name__}; "
                "write Normal(locs, scales)"
            )
        count, batch = mixture_distribution._num_events, component_distribution.batch_shape
        if batch[-1:] != (count,):
            raise DistributionError(
                f"MixtureSameFamily: expected component_distribution with a last batch dimension of "
                f"{count} components, got batch shape {tuple(batch)}; "
                "give one component for each weight"
            )
        weights = mixture_distribution.batch_shape
        if broadcast("mixture_distribution", weights, batch[:-1]) != batch[:-1]:
            raise DistributionError(
                f"MixtureSameFamily: expected mixture_distribution with a batch shape that broadcasts to "
                f"{tuple(batch[:-1])}, got {tuple(weights)}; expand component_distribution"
            )
        super().__init__(mixture_distribution, component_distribution, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Distribution:
        """Return a copy with the batch dimensions expanded to ``batch_shape``."""
        return expand_wrapper(self, MixtureSameFamily, td.MixtureSameFamily, batch_shape, _instance)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B.

        Its gradient is finite at a weight of exactly zero, where the logarithm's is not.
        """
        weights: Any = self.mixture_distribution
        if getattr(weights, "_is_logits", True):
            return super().log_prob(value)  # type: ignore[no-any-return, no-untyped-call]
        if self._validate_args:
            self._validate_sample(value)
        log_probs = self.component_distribution.log_prob(value.unsqueeze(-1 - len(self.event_shape)))
        is_zero = weights.probs == 0
        log_weights = torch.where(is_zero, 1.0, weights.probs).log().masked_fill(is_zero, -math.inf)
        total = (log_probs + log_weights).logsumexp(-1)
        # A component of weight zero adds nothing to the value, but has a slope: its density by the total's.
        ratio = (log_probs - total.unsqueeze(-1)).detach().nan_to_num(-math.inf).clamp(max=_MOST).exp()
        slope = (torch.where(is_zero, weights.probs, 0.0) * ratio).sum(-1)
        result: torch.Tensor = total + slope
        return result

    def sample(self, sample_shape: Size = torch.Size()) -> torch.Tensor:  # noqa: B008
        """Draw a component for each batch entry, and its value, without a gradient."""
        size, event_dim = torch.Size(sample_shape), len(self.event_shape)
        with torch.no_grad():
            weights = self.mixture_distribution.expand(self.batch_shape)
            index = weights.sample(size).reshape(size + self.batch_shape + (1,) * (1 + event_dim))
            draws = self.component_distribution.sample(size)
            index = index.expand(index.shape[: index.dim() - event_dim] + self.event_shape)
            return draws.gather(-1 - event_dim, index).squeeze(-1 - event_dim)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Size) -> tuple[torch.Size, torch.Size]:
        """Not determined by argument shapes: a mixture takes distributions."""
        raise NotImplementedError("MixtureSameFamily: shapes follow from the component distribution")
