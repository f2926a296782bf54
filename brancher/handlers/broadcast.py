"""``broadcast``: expand distributions to the plates they stand under."""

from __future__ import annotations

from typing import Any

from brancher.errors import PlateError
from brancher.handlers.message import Frame, Message
from brancher.handlers.messenger import Messenger


class broadcast(Messenger):  # noqa: N801
    """Expand the distribution of every site inside to the sizes of its plates.

    Plates do so by themselves; this handler is for frames that other code has put on a site.
    """

    def process_message(self, message: Message) -> None:
        """Expand the distribution over every frame."""
        if message.type in ("sample", "factor"):
            for frame in message.frames:
                message.fn = expand_over(message.name, message.fn, frame)


def expand_over(name: str, fn: Any, frame: Frame) -> Any:
    """Expand ``fn`` so that the frame's dimension has the frame's size.

    Raises:
        PlateError: that dimension is there with another size, naming site, plate and both.
    """
    dim = frame.dim
    if dim is None:
        return fn
    shape = fn.batch_shape
    at = len(shape) + dim
    if at >= 0:
        if shape[at] == frame.size:
            return fn
        if shape[at] != 1:
            subsampled = f" (subsampled from {frame.full_size})" if frame.size != frame.full_size else ""
            raise PlateError(
                f"site '{name}': expected size {frame.size}{subsampled} at dim {dim} for plate "
                f"'{frame.name}', got batch shape {tuple(shape)} with size {shape[at]}; give the plate "
                "that size, subsample the data with its indices, or use to_event for dependent dimensions"
            )
    target = [1] * (-dim - len(shape)) + list(shape)
    target[dim] = frame.size
    return fn.expand(target)
