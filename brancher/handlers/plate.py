"""What a plate puts on the stack: the frame that its sites stand under."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from brancher.distributions.validation import is_validating
from brancher.errors import PlateError
from brancher.handlers import stack
from brancher.handlers.broadcast import expand_over
from brancher.handlers.density import is_one
from brancher.handlers.message import Frame, Message
from brancher.handlers.messenger import Messenger


def is_index(rows: Any) -> bool:
    """Whether a plate's rows are row numbers, and not a batch of data in their place."""
    return (
        isinstance(rows, torch.Tensor)
        and rows.dim() == 1
        and not rows.is_floating_point()
        and rows.dtype != torch.bool
    )


class PlateScope(Messenger):
    """Expand, scale and label every site inside one plate; ``primitives.plate`` enters it.

    Args:
        frame: name, dimension and sizes.
        indices: rows present, shape (frame.size,); None when all are, or the rows have no numbers.
        origin: the plate that made it.
    """

    def __init__(self, frame: Frame, indices: torch.Tensor | None, origin: Any = None) -> None:
        super().__init__(None)
        self.frame, self.indices, self.origin = frame, indices, origin
        is_part = indices is not None or frame.size != frame.full_size
        self._factor = frame.full_size / frame.size if frame.size and is_part else 1.0

    def process_message(self, message: Message) -> None:
        """Put the frame on the site; expand its distribution and scale its density."""
        kind = message.type
        if kind == "sample" or kind == "factor":
            message.frames = (self.frame, *message.frames)
            message.fn = expand_over(message.name, message.fn, self.frame)
            if self._factor != 1.0:
                is_first = is_one(message.scale)
                message.scale = self._factor if is_first else message.scale * self._factor
        elif kind == "deterministic" or kind == "param":
            message.frames = (self.frame, *message.frames)

    def postprocess_message(self, message: Message) -> None:
        """Cut data and batched parameters down to the rows present."""
        kind = message.type
        if (kind != "param" and kind != "subsample") or self.frame.dim is None:
            return
        event_dim = message.kwargs.get("event_dim")
        if event_dim is None:
            return
        value: torch.Tensor = message.value
        dim = self.frame.dim - event_dim
        rows = value.shape[dim] if value.dim() >= -dim else 1
        if rows not in (1, self.frame.size, self.frame.full_size) and is_validating():
            raise PlateError(
                f"{kind} '{message.name}': expected size {self.frame.full_size} or 1 at dim {dim} for "
                f"plate '{self.frame.name}', got shape {tuple(value.shape)}; give it the plate's full size"
            )
        if rows == self.frame.full_size and rows != self.frame.size:
            if self.indices is None:
                raise PlateError(
                    f"plate '{self.frame.name}': expected subsample as row indices where {kind} "
                    f"'{message.name}' has all {rows} rows, got data; write subsample=indices"
                )
            message.value = value.index_select(dim, self.indices)


class _Unknown(int):
    """The size of a plate that takes it from its sites, until the first of them is met."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN = _Unknown(-1)


class OpenPlateScope(PlateScope):
    """A plate without a size: it has that of the first site inside, its law's or its observation's."""

    def process_message(self, message: Message) -> None:
        """Find the size where it is not known yet; then as in any plate."""
        if self.frame.size is UNKNOWN:
            if message.type not in ("sample", "factor"):
                return
            size = _rows(message, self.frame)
            self.frame = replace(self.frame, size=size, full_size=size)
        super().process_message(message)

    def postprocess_message(self, message: Message) -> None:
        """Nothing is cut down: all rows are present."""


def _rows(message: Message, frame: Frame) -> int:
    dim: int = frame.dim  # type: ignore[assignment]
    shapes = [(tuple(message.fn.batch_shape), dim)]
    if message.is_observed and isinstance(message.value, torch.Tensor):
        shapes.append((tuple(message.value.shape), dim - len(message.fn.event_shape)))
    sizes = [shape[at] for shape, at in shapes if len(shape) >= -at]
    if not sizes:
        raise PlateError(
            f"plate '{frame.name}': expected a size, or rows in the first site inside, got '{message.name}' "
            f"of batch shape {tuple(message.fn.batch_shape)}; write plate('{frame.name}', 10)"
        )
    return next((size for size in sizes if size != 1), 1)


def open_frames() -> list[Frame]:
    """The frames of the plates that are open here, outermost first."""
    return [entry.frame for entry in stack.current() if isinstance(entry, PlateScope)]


def allocate(name: str, dim: int | None) -> int:
    """Choose the batch dimension of a plate: the one asked for, or the rightmost free one.

    Raises:
        PlateError: the dimension is not negative or another open plate holds it.
    """
    taken = {frame.dim: frame.name for frame in open_frames() if frame.dim is not None}
    free = -1
    while free in taken:
        free -= 1
    if dim is None:
        return free
    if isinstance(dim, bool) or not isinstance(dim, int) or dim >= 0:
        raise PlateError(f"plate '{name}': expected dim as an int < 0, got {dim!r}; try dim={free}")
    if dim in taken:
        raise PlateError(
            f"plate '{name}': expected a free dim < 0, got {dim}, which plate '{taken[dim]}' holds; "
            f"try dim={free}"
        )
    return dim


def refuse_reentry(name: str) -> None:
    """Refuse a plate inside a plate of its own name.

    Raises:
        PlateError: naming the plate.
    """
    if any(frame.name == name for frame in open_frames()):
        raise PlateError(
            f"plate '{name}': expected a plate that is not open, got it entered or iterated a second time; "
            "give the inner plate its own name"
        )
