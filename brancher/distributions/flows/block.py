"""``BlockAutoregressive``: a masked network that is itself a bijection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import softplus

from brancher.distributions.flows.module import TransformModule
from brancher.errors import DistributionError

Activation = Literal["tanh", "LeakyReLU", "ELU"]

#: An activation and the logarithm of its slope.
_ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "tanh": (torch.tanh, lambda x: 2.0 * (0.6931471805599453 - x - softplus(-2.0 * x))),
    "LeakyReLU": (
        nn.functional.leaky_relu,
        lambda x: torch.where(x >= 0, 0.0, -4.605170185988091).to(x.dtype),
    ),
    "ELU": (nn.functional.elu, lambda x: x.clamp(max=0.0)),
}


class _BlockLayer(nn.Module):
    """A linear layer of blocks: positive ones on the diagonal, free ones below, none above."""

    def __init__(self, input_dim: int, before: int, after: int) -> None:
        super().__init__()
        self.input_dim, self.before, self.after = input_dim, before, after
        self.weight = nn.Parameter(
            torch.randn(input_dim, after, input_dim, before) / (input_dim * before) ** 0.5
        )
        self.log_norm = nn.Parameter(torch.zeros(input_dim, after, 1, 1))
        self.bias = nn.Parameter(torch.zeros(input_dim * after))
        order = torch.arange(input_dim)
        self.register_buffer("below", (order[:, None] > order[None, :])[:, None, :, None])
        self.register_buffer("diagonal", (order[:, None] == order[None, :])[:, None, :, None])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The output, and the logarithms of the diagonal blocks, shape (d, after, before)."""
        weight = torch.where(self.diagonal, self.weight.clamp(max=80.0).exp(), self.weight * self.below)  # type: ignore[arg-type, operator]
        # Rows of a given length keep the scale in hand.
        length = weight.square().sum((-2, -1), keepdim=True).sqrt()
        weight = self.log_norm.exp() * weight / length
        own = torch.arange(self.input_dim)
        log_blocks = self.weight[own, :, own] + (self.log_norm - length.log()).squeeze(-1)
        full = weight.reshape(self.input_dim * self.after, self.input_dim * self.before)
        return x @ full.mT + self.bias, log_blocks


class BlockAutoregressive(TransformModule):
    """A network whose every output rises with its own input and sees the inputs before it.

    Block neural autoregressive flow, De Cao et al. 2019, arXiv:1904.04676, section 3. There is no inverse in
    closed form: only the density of the last draw is known.

    Args:
        input_dim: length d of the vector.
        hidden_factors: widths of the hidden layers, as multiples of d.
        activation: "tanh", "LeakyReLU" or "ELU".
        residual: None; "normal" to add the input; "gated" for a learned mixture with it.

    Raises:
        DistributionError: an option is unknown; or the inverse of anything but the last draw is asked for.

    Example:
        >>> from brancher.distributions import Normal, TransformedDistribution
        >>> from brancher.distributions.transforms import block_autoregressive
        >>> law = TransformedDistribution(Normal(torch.zeros(3), 1.0), [block_autoregressive(3)])
        >>> law.log_prob(law.rsample((5,))).shape
        torch.Size([5])
    """

    def __init__(
        self,
        input_dim: int,
        hidden_factors: Sequence[int] = (8, 8),
        activation: Activation = "tanh",
        residual: Literal["normal", "gated"] | None = None,
    ) -> None:
        super().__init__(cache_size=1)
        if activation not in _ACTIVATIONS or residual not in (None, "normal", "gated"):
            raise DistributionError(
                f"BlockAutoregressive: expected activation of {list(_ACTIVATIONS)} and residual None, "
                f"'normal' or 'gated', got {activation!r} and {residual!r}"
            )
        widths = [1, *hidden_factors, 1]
        self.layers = nn.ModuleList(
            _BlockLayer(input_dim, before, after) for before, after in pairwise(widths)
        )
        self.activation, self.residual = activation, residual
        self.gate = nn.Parameter(torch.zeros(())) if residual == "gated" else None

    def _run(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image and the logarithm of each output's slope by its own input."""
        bend, log_slope = _ACTIVATIONS[self.activation]
        first, *others = self.layers
        value, blocks = first(x)
        total: torch.Tensor = blocks.expand(*x.shape[:-1], *blocks.shape)
        for layer in others:
            slope = log_slope(value).reshape(*total.shape[:-1], 1)
            value, blocks = layer(bend(value))
            total = (blocks.unsqueeze(-1) + (total + slope).unsqueeze(-3)).logsumexp(-2)
        own = total.squeeze(-1).squeeze(-1)
        if self.residual == "normal":
            return x + value, softplus(own)
        if self.gate is not None:
            keep, change = nn.functional.logsigmoid(-self.gate), nn.functional.logsigmoid(self.gate)
            return keep.exp() * x + change.exp() * value, torch.logaddexp(keep, change + own)
        return value, own

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self._run(x)[0]

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        raise DistributionError(
            "BlockAutoregressive: expected the last draw, whose source is known, got another value; the "
            "flow has no inverse in closed form: use a coupling or spline flow for densities of data"
        )

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Log-determinant at ``x``, shape of ``x`` without its last dimension."""
        return self._run(x)[1].sum(-1)


def block_autoregressive(
    input_dim: int,
    hidden_factors: Sequence[int] = (8, 8),
    activation: Activation = "tanh",
    residual: Literal["normal", "gated"] | None = None,
) -> BlockAutoregressive:
    """Make a :class:`BlockAutoregressive`."""
    return BlockAutoregressive(input_dim, hidden_factors, activation, residual)
