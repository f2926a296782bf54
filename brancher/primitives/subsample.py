"""``subsample``: cut data down to the rows of the plates around."""

from __future__ import annotations

from typing import Any

import torch

from brancher.errors import SiteTypeError
from brancher.handlers import stack
from brancher.handlers.message import Message
from brancher.handlers.values import as_plain_tensor


def subsample(data: Any, event_dim: int) -> torch.Tensor:
    """Select the rows of data that the enclosing subsampled plates have drawn.

    Args:
        data: full data, shape B + E with the plates' full sizes in B.
        event_dim: rank of E.

    Returns:
        The data with every plate's dimension cut to the rows present; as they were where a
        dimension already has the subsample's size.

    Raises:
        SiteTypeError: ``event_dim`` is no int >= 0, or the data no tensor or array.
        PlateError: a dimension fits neither the plate's full size nor its subsample.

    Example:
        >>> data = torch.arange(6.0)
        >>> with plate("row", 6, subsample=torch.tensor([4, 1])):
        ...     subsample(data, event_dim=0)
        tensor([4., 1.])
    """
    if isinstance(event_dim, bool) or not isinstance(event_dim, int) or event_dim < 0:
        raise SiteTypeError(
            f"subsample: expected event_dim as an int >= 0, got {event_dim!r}; 0 is for one number a row"
        )
    value = data if isinstance(data, torch.Tensor) else as_plain_tensor("subsample", data)
    message = Message("subsample", "data", None, value=value, kwargs={"event_dim": event_dim}, done=True)
    return stack.apply(message).value  # type: ignore[no-any-return]
