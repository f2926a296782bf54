"""``Polynomial``: a flow of polynomials whose slopes are sums of squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from brancher.distributions.flows.masked import AutoRegressiveNN
from brancher.distributions.flows.monotone import MonotoneAutoregressive
from brancher.errors import DistributionError


class Polynomial(MonotoneAutoregressive):
    """``y_i = c_i + integral from 0 to x_i of sum_k (sum_r a_rk u^r)^2 du``, a polynomial that increases.

    The numbers ``a`` are computed from the entries before i. Sum-of-squares polynomial flow, Jaini et al.
    2019, arXiv:1905.02325, section 3.

    Args:
        autoregressive_nn: gives the ``a``, such as ``AutoRegressiveNN(d, [10 * d], [(R + 1) * K])``.
        input_dim: length d of the vector.
        count_degree: degree R of the polynomials that are squared; >= 0.
        count_sum: how many squares K; > 0.

    Raises:
        DistributionError: a count is out of range.

    Example:
        >>> from brancher.distributions import Normal, TransformedDistribution
        >>> from brancher.distributions.transforms import polynomial
        >>> law = TransformedDistribution(Normal(torch.zeros(3), 1.0), [polynomial(3)])
        >>> law.log_prob(law.rsample((5,))).shape
        torch.Size([5])
    """

    def __init__(self, autoregressive_nn: Any, input_dim: int, count_degree: int, count_sum: int) -> None:
        super().__init__(autoregressive_nn)
        if type(count_degree) is not int or count_degree < 0 or type(count_sum) is not int or count_sum < 1:
            raise DistributionError(
                f"Polynomial: expected count_degree as an int >= 0 and count_sum as an int > 0, got "
                f"{count_degree!r} and {count_sum!r}; 4 and 3 are usual"
            )
        self.input_dim, self.count_degree, self.count_sum = input_dim, count_degree, count_sum
        self.c = nn.Parameter((torch.rand(input_dim) * 2.0 - 1.0) / input_dim**0.5)

    def function(self, numbers: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The polynomials and the logarithms of their slopes."""
        terms = self.count_degree + 1
        total = terms * self.count_sum
        batch = numbers.shape[: -1 if total == 1 else -2]  # networks leave a dimension of one out
        a = numbers.reshape((*batch, self.count_sum, terms, self.input_dim))
        powers = torch.arange(terms, dtype=x.dtype, device=x.device).unsqueeze(-1)
        at = x.unsqueeze(-2).unsqueeze(-3)
        slope = (a * at.pow(powers)).sum(-2).square().sum(-2)
        # The integral of u^(r + s) is x^(r + s + 1) / (r + s + 1).
        both = powers.unsqueeze(-2) + powers.unsqueeze(-3) + 1.0
        squares = (a.unsqueeze(-2) * a.unsqueeze(-3)).sum(-4)
        value = self.c + (squares * at.pow(both) / both).sum((-2, -3))
        return value, slope.log()


def polynomial(input_dim: int, hidden_dims: Sequence[int] | None = None) -> Polynomial:
    """Make a :class:`Polynomial` of three squares, each of a polynomial of degree 4.

    There is one hidden layer of ``10 * input_dim`` by default.
    """
    degree, squares = 4, 3
    widths = [10 * input_dim] if hidden_dims is None else hidden_dims
    network = AutoRegressiveNN(input_dim, widths, [(degree + 1) * squares])
    return Polynomial(network, input_dim, degree, squares)
