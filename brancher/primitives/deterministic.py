"""``deterministic`` and ``factor``: values and log-density terms with a name."""

from __future__ import annotations

from typing import Any

import torch

from brancher.distributions import Unit
from brancher.errors import DistributionError, SiteError
from brancher.handlers import stack
from brancher.handlers.message import Message
from brancher.handlers.values import as_plain_tensor
from brancher.primitives.sample import refuse_name


def deterministic(name: str, value: Any, event_dim: int | None = None) -> torch.Tensor:
    """Record a value computed by the model, so that traces, tables and Predictive show it.

    Args:
        name: unique within the model.
        value: a tensor or number.
        event_dim: how many rightmost dimensions belong to one value; None for all of them.

    Returns:
        The value as a tensor. It adds nothing to the density.

    Example:
        >>> deterministic("twice", 2.0)
        tensor(2.)
    """
    if type(name) is not str or not name:
        refuse_name("deterministic", name)
    if not isinstance(value, torch.Tensor):
        value = as_plain_tensor(f"deterministic '{name}'", value)
    message = Message("deterministic", name, None, value=value, done=True)
    message.kwargs["event_dim"] = event_dim
    return stack.apply(message).value  # type: ignore[no-any-return]


def factor(name: str, log_factor: Any, *, has_rsample: bool | None = None) -> None:
    """Add a term to the log-density.

    Args:
        name: unique within the model.
        log_factor: the term in nats, shape B.
        has_rsample: needed in a guide: whether the term depends on draws by pathwise
            gradients alone.

    Raises:
        SiteError: the term is NaN.
        SiteTypeError: the term is no tensor, array or number.

    Example:
        >>> trace = handlers.trace(lambda: factor("f", torch.tensor(-3.0))).get_trace()
        >>> trace.log_prob_sum()
        tensor(-3.)
    """
    if type(name) is not str or not name:
        refuse_name("factor", name)
    if not isinstance(log_factor, torch.Tensor):
        log_factor = as_plain_tensor(f"factor '{name}'", log_factor).to(torch.get_default_dtype())
    try:
        fn = Unit(log_factor, has_rsample=has_rsample)
    except DistributionError:
        bad = torch.isnan(log_factor).nonzero()
        raise SiteError(
            f"factor '{name}': expected log_factor without NaN, got {len(bad)} NaN among "
            f"{log_factor.numel()} values, the first at index {tuple(bad[0].tolist())}; look for a "
            "logarithm of a negative number or 0 * inf behind it"
        ) from None
    value = log_factor.new_empty((*log_factor.shape, 0))
    message = Message("factor", name, fn, value=value, is_observed=True, done=True)
    message.infer["has_rsample"] = has_rsample
    stack.apply(message)
