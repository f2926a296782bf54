"""``NeuralAutoregressive``: each entry goes through a small increasing network of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch.nn.functional import elu, leaky_relu, logsigmoid, softplus

from brancher.distributions.flows.conditional import (
    ConditionalAutoRegressiveNN,
    ConditionalTransformModule,
    Known,
)
from brancher.distributions.flows.masked import AutoRegressiveNN
from brancher.distributions.flows.monotone import MonotoneAutoregressive
from brancher.errors import DistributionError

Activation = Literal["sigmoid", "tanh", "ELU", "LeakyReLU"]
Mixture = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

_LOG_LEAK = -4.605170185988091  # log of 0.01, the slope of LeakyReLU below 0


def _sigmoid(log_weight: torch.Tensor, c: torch.Tensor) -> Mixture:
    log_slopes = logsigmoid(c) + logsigmoid(-c)
    above, below = _mixed(log_weight, logsigmoid(c)), _mixed(log_weight, logsigmoid(-c))
    return above - below, above + below, log_slopes


def _tanh(log_weight: torch.Tensor, c: torch.Tensor) -> Mixture:
    # tanh(c) is a sigmoid of 2 c, stretched: the factor of both slopes cancels.
    value, log_slope, log_slopes = _sigmoid(log_weight, 2.0 * c)
    return value / 2.0, log_slope, log_slopes


def _elu(log_weight: torch.Tensor, c: torch.Tensor) -> Mixture:
    mean = (log_weight.exp() * elu(c)).sum(-2)
    # The logarithm of 1 + mean, where the mean comes near to -1.
    log_above = _mixed(log_weight, torch.where(c > 0, c.clamp(min=0.0).log1p(), c))
    value = torch.where(mean > 0, mean, log_above)
    return value, value.clamp(max=0.0), c.clamp(max=0.0)


def _leaky_relu(log_weight: torch.Tensor, c: torch.Tensor) -> Mixture:
    mean = (log_weight.exp() * leaky_relu(c)).sum(-2)
    value = torch.where(mean > 0, mean, 100.0 * mean)
    log_slope, log_slopes = (torch.where(each > 0, 0.0, _LOG_LEAK).to(c.dtype) for each in (mean, c))
    return value, log_slope, log_slopes


def _mixed(log_weight: torch.Tensor, logarithm: torch.Tensor) -> torch.Tensor:
    return (log_weight + logarithm).logsumexp(-2)


#: By activation T: from weights and c to ``y = T^-1(sum_h w_h T(c_h))``, ``log T'(y)`` and ``log T'(c)``.
_MIXTURES: dict[str, Callable[[torch.Tensor, torch.Tensor], Mixture]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "ELU": _elu,
    "LeakyReLU": _leaky_relu,
}


class NeuralAutoregressive(MonotoneAutoregressive):
    """``y_i = T^-1(sum_h w_h T(a_h x_i + b_h))`` with ``a > 0`` and weights ``w`` from the entries before i.

    Neural autoregressive flow, Huang et al. 2018, arXiv:1804.00779, eq. 8. All is computed by logarithms,
    so that no entry saturates.

    Args:
        autoregressive_nn: gives ``a``, ``w`` and ``b`` before they are made positive, such as
            ``AutoRegressiveNN(d, [3 * d + 1], [H] * 3)``.
        hidden_units: H, how many terms; > 0.
        activation: T, one of "sigmoid", "tanh", "ELU" and "LeakyReLU".

    Raises:
        DistributionError: the activation is unknown.

    Example:
        >>> from brancher.distributions.transforms import neural_autoregressive
        >>> flow, x = neural_autoregressive(3), torch.randn(5, 3)
        >>> torch.allclose(flow.inv(flow(x).clone()), x, atol=1e-4)
        True
    """

    def __init__(
        self, autoregressive_nn: Any, hidden_units: int = 16, activation: Activation = "sigmoid"
    ) -> None:
        super().__init__(autoregressive_nn)
        if activation not in _MIXTURES:
            raise DistributionError(
                f"NeuralAutoregressive: expected activation of {list(_MIXTURES)}, got {activation!r}; "
                "'sigmoid' is usual"
            )
        self.hidden_units, self.activation = hidden_units, activation

    def function(self, numbers: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The networks and the logarithms of their slopes."""
        if self.hidden_units == 1:  # networks leave a dimension of one out
            numbers = [each.unsqueeze(-2) for each in numbers]
        free_a, free_weight, b = numbers
        a, log_weight = softplus(free_a), free_weight.log_softmax(-2)
        mix = _MIXTURES[self.activation]
        value, log_slope, log_slopes = mix(log_weight, a * x.unsqueeze(-2) + b)
        return value, _mixed(log_weight + a.log(), log_slopes) - log_slope


class ConditionalNeuralAutoregressive(ConditionalTransformModule):
    """A :class:`NeuralAutoregressive` whose network sees a context.

    Args:
        autoregressive_nn: gives ``a``, ``w`` and ``b``, such as a ``ConditionalAutoRegressiveNN``.
        **options: see :class:`NeuralAutoregressive`.
    """

    def __init__(self, autoregressive_nn: ConditionalAutoRegressiveNN, **options: Any) -> None:
        super().__init__()
        NeuralAutoregressive(None, **options)  # refuses unknown options
        self.nn, self.options = autoregressive_nn, options

    def condition(self, context: torch.Tensor) -> NeuralAutoregressive:
        """The flow for a context."""
        return NeuralAutoregressive(Known(self.nn, context), **self.options)


def neural_autoregressive(
    input_dim: int,
    hidden_dims: Sequence[int] | None = None,
    activation: Activation = "sigmoid",
    width: int = 16,
) -> NeuralAutoregressive:
    """Make a :class:`NeuralAutoregressive`; one hidden layer of ``3 * input_dim + 1`` by default."""
    widths = [3 * input_dim + 1] if hidden_dims is None else hidden_dims
    return NeuralAutoregressive(AutoRegressiveNN(input_dim, widths, [width] * 3), width, activation)


def conditional_neural_autoregressive(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sequence[int] | None = None,
    activation: Activation = "sigmoid",
    width: int = 16,
) -> ConditionalNeuralAutoregressive:
    """Make a :class:`ConditionalNeuralAutoregressive`; see :func:`neural_autoregressive`."""
    widths = [3 * input_dim + 1] if hidden_dims is None else hidden_dims
    network = ConditionalAutoRegressiveNN(input_dim, context_dim, widths, [width] * 3)
    return ConditionalNeuralAutoregressive(network, hidden_units=width, activation=activation)
