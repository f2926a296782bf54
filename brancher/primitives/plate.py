"""``plate``: rows that are independent given what is outside."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import torch

from brancher.distributions.validation import is_validating
from brancher.errors import DistributionError, PlateError, PlateIndexError, add_place
from brancher.handlers import stack
from brancher.handlers.message import Frame, Message
from brancher.handlers.plate import UNKNOWN, OpenPlateScope, PlateScope, allocate, is_index, refuse_reentry
from brancher.handlers.replay import replayed_rows
from brancher.primitives.sample import refuse_name


class plate:  # noqa: N801
    """Independent rows, as a batch dimension (``with``) or as a loop (``for``).

    Args:
        name: unique within the model, the same in model and guide.
        size: number of rows, >= 0; taken from ``coords`` when left out, or else from the distribution or
            observation of the first site inside.
        subsample_size: how many rows to draw afresh at every run; densities inside are
            scaled by ``size / subsample_size``, so that they stay unbiased. Left out, a model takes
            the rows of its guide, and all of them where that takes all.
        subsample: the rows to use, an index tensor; wins over ``subsample_size``. Anything else with a
            length, such as a batch of data, says how many rows there are, but not which.
        dim: batch dimension < 0; by default the rightmost free one.
        device: where indices are made.
        coords: labels of the rows (list, numpy array or pandas index), kept for tables.

    Raises:
        PlateError: a size, dim or subsample is impossible, or the plate is open already.

    Example:
        >>> with plate("row", 3) as rows:
        ...     x = sample("x", dist.Normal(0.0, 1.0))
        >>> rows, x.shape
        (tensor([0, 1, 2]), torch.Size([3]))
    """

    def __init__(
        self,
        name: str,
        size: int | None = UNKNOWN,
        subsample_size: int | None = None,
        subsample: torch.Tensor | Sequence[int] | None = None,
        dim: int | None = None,
        use_cuda: bool | None = None,
        device: torch.device | str | None = None,
        *,
        coords: Any = None,
    ) -> None:
        if type(name) is not str or not name:
            refuse_name("plate", name)
        self.name, self.dim, self.coords = name, dim, coords
        self.device = torch.device("cuda") if use_cuda and device is None else device
        is_open = size is UNKNOWN and coords is None and subsample is None and subsample_size is None
        self.size = UNKNOWN if is_open else _row_count(name, None if size is UNKNOWN else size, coords)
        if dim is not None:
            _check_dim(name, dim)
        #: Row numbers, or what was given in their place; None for all rows.
        self._rows = self._choose(subsample_size, subsample)
        self._indices = self._rows if is_index(self._rows) else None
        self.subsample_size = self.size if self._rows is None else len(self._rows)

    def _choose(self, subsample_size: int | None, subsample: Any) -> Any:
        is_full = subsample is None and (subsample_size is None or subsample_size == self.size)
        # A model that names no rows takes those of its guide.
        if is_full and (subsample_size is not None or not replayed_rows(self.name)):
            return None
        given = None
        if subsample is not None:
            given = _as_rows(self.name, subsample, self.device)
        elif not is_full:
            count = _as_count(subsample_size)
            if count is None or not 0 < count <= self.size:
                raise PlateError(
                    f"plate '{self.name}': expected 0 < subsample_size <= {self.size}, got "
                    f"{subsample_size!r}; leave it out for all rows"
                )
            subsample_size = count
        if given is not None and subsample_size is not None and len(given) != _as_count(subsample_size):
            raise PlateError(
                f"plate '{self.name}': expected subsample with subsample_size={subsample_size} indices, got "
                f"{len(given)}; leave subsample_size out"
            )
        message = Message(
            "plate", self.name, self._draw, value=given, kwargs={"subsample_size": subsample_size}
        )
        rows: Any = stack.apply(message).value
        if is_validating():
            if is_index(rows):
                _check_rows(self.name, self.size, rows)
            if subsample_size is not None and len(rows) != subsample_size:
                raise PlateError(
                    f"plate '{self.name}': expected {subsample_size} rows as subsample_size says, got the "
                    f"{len(rows)} of the guide or trace; give the plate one subsample_size in both"
                )
        return rows

    def _draw(self, message: Message) -> torch.Tensor:
        return torch.randperm(self.size, device=self.device)[: message.kwargs["subsample_size"]]

    @property
    def indices(self) -> torch.Tensor:
        """The rows present, shape (subsample_size,); what was given in their place where that is data."""
        if self.size is UNKNOWN:
            self._refuse_open("its indices")
        rows: torch.Tensor = torch.arange(self.size, device=self.device) if self._rows is None else self._rows
        return rows

    def _refuse_open(self, wanted: str) -> NoReturn:
        raise PlateError(
            f"plate '{self.name}': expected a size for {wanted}, got none; write plate('{self.name}', 10)"
        )

    def _frame(self, dim: int | None, counter: int = 0) -> Frame:
        size = self.subsample_size
        return Frame(self.name, dim, size, self.size, counter, self.coords)

    def __enter__(self) -> torch.Tensor:
        refuse_reentry(self.name)
        frame = self._frame(allocate(self.name, self.dim))
        if self.size is UNKNOWN:
            stack.push(OpenPlateScope(frame, None, self))
            return None  # type: ignore[return-value]
        stack.push(PlateScope(frame, self._indices, self))
        return self.indices

    def __exit__(self, kind: Any, error: BaseException | None, where: Any) -> None:
        stack.pop(self)  # type: ignore[arg-type]
        if isinstance(error, DistributionError):
            add_place(error, f"inside plate '{self.name}'")

    def __iter__(self) -> Iterator[int]:
        refuse_reentry(self.name)
        # Rows that are all there are known without a tensor, so that a loop over them can be compiled.
        is_full = self._rows is None and self.size is not UNKNOWN
        rows: Any = range(self.size) if is_full else self.indices
        if is_index(rows):
            rows = rows.cpu().tolist()
        for counter, row in enumerate(rows):
            frame = Frame(self.name, None, self.subsample_size, self.size, counter, self.coords)
            scope = PlateScope(frame, self._indices, self)
            with scope:
                yield row

    def __len__(self) -> int:
        if self.size is UNKNOWN:
            self._refuse_open("its length")
        return self.subsample_size

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function so that it runs inside the plate."""

        @functools.wraps(fn)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self:
                return fn(*args, **kwargs)

        return inside

    def __repr__(self) -> str:
        return f"plate('{self.name}', {self.size}, subsample_size={self.subsample_size}, dim={self.dim})"


@contextmanager
def plate_stack(prefix: str, sizes: Sequence[int], rightmost_dim: int = -1) -> Iterator[list[torch.Tensor]]:
    """Open a nest of plates, one for every dimension of a shape.

    Args:
        prefix: the plates are named ``{prefix}_0``, ``{prefix}_1``, ... from the left.
        sizes: their sizes, leftmost first.
        rightmost_dim: the dimension of the last one, < 0.

    Example:
        >>> with plate_stack("grid", [2, 3]):
        ...     x = sample("x", dist.Normal(0.0, 1.0))
        >>> x.shape
        torch.Size([2, 3])
    """
    _check_dim(prefix, rightmost_dim)
    if not isinstance(sizes, Sequence):
        raise PlateError(
            f"plate_stack '{prefix}': expected sizes as a list of ints, got {type(sizes).__name__}; write "
            f"plate_stack('{prefix}', [2, 3])"
        )
    with ExitStack() as opened:
        plates = [
            plate(f"{prefix}_{i}", size, dim=rightmost_dim - (len(sizes) - 1 - i))
            for i, size in enumerate(sizes)
        ]
        yield [opened.enter_context(p) for p in plates]


def _row_count(name: str, size: Any, coords: Any) -> int:
    if coords is not None and (isinstance(coords, str) or not hasattr(coords, "__len__")):
        raise PlateError(
            f"plate '{name}': expected coords as a list, array or index of labels, got "
            f"{type(coords).__name__}; "
            "write coords=['a', 'b']"
        )
    if size is None and coords is not None:
        return len(coords)
    count = _as_count(size)
    if count is None or count < 0:
        raise PlateError(
            f"plate '{name}': expected a size as an int >= 0, got {_shown(size)}; write plate('{name}', "
            f"{'len(data)' if hasattr(size, '__len__') else 10})"
        )
    if coords is not None and len(coords) != count:
        raise PlateError(
            f"plate '{name}': expected {count} coords, one a row, got {len(coords)}; "
            f"write plate('{name}', coords=labels) to take the size from them"
        )
    return count


def _shown(size: Any) -> str:
    shape = getattr(size, "shape", None)
    return f"{type(size).__name__} of shape {tuple(shape)}" if shape else repr(size)


def _as_count(value: Any) -> int | None:
    """An int, also of numpy or torch; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError):
        return None


def _check_dim(name: str, dim: Any) -> None:
    if isinstance(dim, bool) or not isinstance(dim, int) or dim >= 0:
        raise PlateError(f"plate '{name}': expected dim as an int < 0, got {dim!r}; try dim=-1")


def _as_rows(name: str, subsample: Any, device: Any) -> Any:
    """Row numbers as a tensor; a batch of data, a tensor or a list of objects, as it is."""
    rows = subsample
    if not isinstance(rows, torch.Tensor):
        try:
            rows = torch.as_tensor(subsample, device=device)
        except (TypeError, ValueError, RuntimeError):
            rows = subsample
    elif device is not None and is_index(rows):
        rows = rows.to(device)
    if is_index(rows):
        return rows
    is_mask = isinstance(rows, torch.Tensor) and rows.dtype == torch.bool
    is_batch = isinstance(subsample, torch.Tensor) and subsample.dim() > 0
    is_list = isinstance(rows, list | tuple)  # of something else than numbers
    if is_mask or not (is_batch or is_list):
        shown = f"{rows.dtype} of shape {tuple(rows.shape)}" if is_mask else type(subsample).__name__
        raise PlateError(
            f"plate '{name}': expected subsample as a vector of row indices, or a batch of data with a "
            f"length, got {shown}; of a mask take mask.nonzero().squeeze(-1)"
        )
    return subsample


def _check_rows(name: str, size: int, rows: torch.Tensor) -> None:
    """Check that indices lie inside their plate.

    Raises:
        PlateIndexError: naming the plate and the first index outside.
    """
    outside = (rows < 0) | (rows >= size)
    if bool(outside.any()):
        first = rows[outside][0]
        raise PlateIndexError(
            f"plate '{name}': expected indices in [0, {size}), got {int(outside.sum())} outside, the first "
            f"{int(first)}; count rows from 0, or give the plate its full size"
        )
