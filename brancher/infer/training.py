"""The loop around ``SVI.step``: minibatches, progress bar, callbacks, early stop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from brancher.errors import BrancherWarning, InferenceError

if TYPE_CHECKING:
    import pandas as pd

    from brancher.infer.svi import SVI

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

#: How many steps a mean loss is taken over when convergence is judged.
WINDOW = 100


def train(
    svi: SVI,
    num_steps: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    progress: bool,
    callback: Callable[[int, float], Any] | None,
    tol: float | None,
) -> pd.Series:
    """Take ``num_steps`` steps; see :meth:`SVI.run`."""
    import pandas as pd
    from tqdm.auto import tqdm

    if isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 1:
        raise InferenceError(f"SVI.run: expected num_steps as an int > 0, got {num_steps!r}")
    if tol is not None and not tol > 0:
        raise InferenceError(f"SVI.run: expected tol > 0 or None, got {tol!r}")
    start, losses = svi.steps, []
    batches = argument_stream(args, kwargs)
    bar = tqdm(total=num_steps, disable=not progress, desc="SVI", unit="step")
    try:
        with bar:
            for _ in range(num_steps):
                batch_args, batch_kwargs = next(batches)
                loss = svi.step(*batch_args, **batch_kwargs)
                losses.append(loss)
                bar.update()
                if progress and len(losses) % 20 == 1:
                    bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
                if callback is not None and callback(svi.steps, loss):
                    break
                if tol is not None and has_converged(losses, tol):
                    break
    except KeyboardInterrupt:
        warnings.warn(
            f"SVI.run: expected {num_steps} steps, got an interrupt after {len(losses)}; the parameters and "
            "losses so far are kept: call run again to go on",
            BrancherWarning,
            stacklevel=3,
        )
    index = pd.RangeIndex(start + 1, start + 1 + len(losses), name="step")
    return pd.Series(losses, index=index, name="loss", dtype=float)


def argument_stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Arguments]:
    """The arguments of every step: the same ones, or the batches of a DataLoader for ever."""
    from torch.utils.data import DataLoader

    if len(args) != 1 or not isinstance(args[0], DataLoader):
        while True:
            yield args, kwargs
    while True:
        count = 0
        for batch in args[0]:
            count += 1
            yield _as_arguments(batch, kwargs)
        if not count:
            raise InferenceError("SVI.run: expected batches from the DataLoader, got none; its dataset is empty")


def _as_arguments(batch: Any, kwargs: dict[str, Any]) -> Arguments:
    if isinstance(batch, Mapping):
        return (), {**batch, **kwargs}
    return (tuple(batch) if isinstance(batch, (list, tuple)) else (batch,)), kwargs


def has_converged(losses: list[float], tol: float) -> bool:
    """Whether the mean of the last window is within ``tol`` of the mean before, judged once a window."""
    if len(losses) < 2 * WINDOW or len(losses) % WINDOW:
        return False
    now = sum(losses[-WINDOW:]) / WINDOW
    before = sum(losses[-2 * WINDOW : -WINDOW]) / WINDOW
    return abs(now - before) <= tol * max(abs(before), 1e-12)
