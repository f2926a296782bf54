"""OrderedLogistic: ordered categories cut out of a logistic law."""

from __future__ import annotations

import torch
from torch import distributions as td
from torch.nn.functional import logsigmoid

from brancher.distributions import constraints
from brancher.distributions.categorical import Categorical
from brancher.distributions.parameters import Number, to_tensors
from brancher.distributions.shapes import broadcast
from brancher.distributions.special import log1mexp
from brancher.errors import DistributionError


class OrderedLogistic(Categorical):
    """Category k where a logistic draw around ``predictor`` falls between two cutpoints.

    The probability of a category is a product of sigmoids and a factor of the gap alone,
    ``s(b) - s(a) = s(b) s(-a) (1 - exp(a - b))``, so far categories keep their digits.

    Args:
        predictor: location of the logistic law, shape B.
        cutpoints: increasing, shape (K - 1,) or B + (K - 1,).

    Example:
        >>> OrderedLogistic(torch.tensor(0.0), torch.tensor([0.0])).probs
        tensor([0.5000, 0.5000])
    """

    predictor: torch.Tensor
    cutpoints: torch.Tensor
    arg_constraints = {
        "predictor": constraints.real,
        "cutpoints": constraints.ordered_vector,
        **td.Categorical.arg_constraints,
    }

    def __init__(self, predictor: Number, cutpoints: torch.Tensor, validate_args: bool | None = None) -> None:
        predictor, cutpoints = to_tensors(self, predictor=predictor, cutpoints=cutpoints)
        if cutpoints.dim() < 1 or not cutpoints.shape[-1]:
            raise DistributionError(
                "OrderedLogistic: expected parameter 'cutpoints' of shape (..., K - 1) with K > 1 "
                f"categories, got {tuple(cutpoints.shape)}; "
                "give one cutpoint between each two categories"
            )
        shape = broadcast("cutpoints", predictor.shape, cutpoints.shape[:-1])
        self.predictor = predictor.expand(shape)
        self.cutpoints = cutpoints.expand(shape + cutpoints.shape[-1:])
        super().__init__(logits=_log_masses(self.predictor, self.cutpoints), validate_args=validate_args)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats, from the two cutpoints around the value alone."""
        if self._validate_args:
            self._validate_sample(value)
        value, predictor = torch.broadcast_tensors(value.long(), self.predictor)
        count = self.cutpoints.shape[-1]
        cutpoints = self.cutpoints.expand((*value.shape, count))
        below = cutpoints.gather(-1, (value - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
        above = cutpoints.gather(-1, value.clamp(max=count - 1).unsqueeze(-1)).squeeze(-1)
        low, high = torch.where(value == 0, -torch.inf, below), torch.where(value == count, torch.inf, above)
        return logsigmoid(high - predictor) + logsigmoid(predictor - low) + log1mexp(low - high)


def _log_masses(predictor: torch.Tensor, cutpoints: torch.Tensor) -> torch.Tensor:
    distance = cutpoints - predictor.unsqueeze(-1)
    below, above = logsigmoid(distance), logsigmoid(-distance)
    gap = log1mexp(cutpoints[..., :-1] - cutpoints[..., 1:])
    inner = below[..., 1:] + above[..., :-1] + gap
    return torch.cat([below[..., :1], inner, above[..., -1:]], -1)
