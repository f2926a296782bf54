"""The loop around ``SVI.step``: minibatches, progress bar, callbacks, early stop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brancher.errors import BrancherWarning, InferenceError, InferenceTypeError
from brancher.optim.rates import MOST

if TYPE_CHECKING:
    import pandas as pd

    from brancher.infer.svi import SVI

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

#: A site of model or guide takes about 0.15 ms of an eager step, and as long to compile as 1,500 eager steps;
#: another 4 s go to what every model takes, which 27,000 eager sites take too. Numbers, not measurements: two
#: runs with one seed must not differ by what else the machine is doing.
STEPS_OF_COMPILING, SITES_OF_STARTING = 1_500, 27_000
#: Steps that are worth compiling whatever the model.
ALWAYS_WORTH = 5_000

#: How long a compiled loop may keep the progress bar waiting.
LOOP_SECONDS = 0.2

#: How many steps a mean loss is taken over when convergence is judged.
WINDOW = 100


@dataclass(frozen=True)
class Settings:
    """How a run goes; see :meth:`SVI.run`."""

    progress: bool
    callback: Callable[[int, float], Any] | None
    tol: float | None
    compile: bool | str


def train(
    svi: SVI, num_steps: int, args: tuple[Any, ...], kwargs: dict[str, Any], settings: Settings
) -> pd.Series:
    """Take ``num_steps`` steps; see :meth:`SVI.run`."""
    import pandas as pd
    from tqdm.auto import tqdm

    _check(num_steps, settings)
    start, losses = svi.steps, list[float]()
    bar = tqdm(total=num_steps, disable=not settings.progress, desc="SVI", unit="step")
    try:
        with bar:
            for some in chunks(svi, num_steps, args, kwargs, settings):
                losses += some
                bar.update(len(some))
                if settings.progress and (len(some) > 1 or len(losses) % 20 == 1):
                    bar.set_postfix(loss=f"{some[-1]:.4g}", refresh=False)
                if settings.callback is not None and settings.callback(svi.steps, some[-1]):
                    break
                if settings.tol is not None and has_converged(losses, settings.tol):
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


def _check(num_steps: int, settings: Settings) -> None:
    if isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 1:
        raise InferenceError(
            f"SVI.run: expected num_steps as an int > 0, got {num_steps!r}; write svi.run(1000, *args)"
        )
    tol, callback = settings.tol, settings.callback
    if tol is not None and (not isinstance(tol, (int, float)) or not tol > 0):
        raise InferenceError(f"SVI.run: expected tol as a number > 0 or None, got {tol!r}; write tol=1e-3")
    if callback is not None and not callable(callback):
        raise InferenceTypeError(
            f"SVI.run: expected callback as a function of step and loss, got {type(callback).__name__}; "
            "write callback=lambda step, loss: print(step, loss)"
        )
    if settings.compile not in (True, False, "auto"):
        raise InferenceError(
            f"SVI.run: expected compile as True, False or 'auto', got {settings.compile!r}; "
            "'auto' compiles long runs"
        )


def chunks(
    svi: SVI, num_steps: int, args: tuple[Any, ...], kwargs: dict[str, Any], settings: Settings
) -> Iterator[list[float]]:
    """Take the steps and give their losses, several at a time where a compiled loop can take them.

    A callback sees every step, and a DataLoader gives every step other arguments: those go one
    by one. Convergence is judged at whole windows, so loops end there.
    """
    one_by_one = settings.callback is not None or is_loader(args)
    batches, done, size = argument_stream(args, kwargs), 0, 1
    while done < num_steps:
        batch_args, batch_kwargs = next(batches)
        some: list[float] = []
        if is_compiled(svi, num_steps, settings):
            most = 1 if one_by_one else min(size, MOST, num_steps - done)
            if settings.tol is not None:
                most = min(most, WINDOW - done % WINDOW)
            begin = time.perf_counter()
            some = svi.steps_compiled(most, batch_args, batch_kwargs)
            if some and time.perf_counter() - begin < LOOP_SECONDS / 2:
                size *= 2
        if not some:
            some = [svi.step(*batch_args, **batch_kwargs)]
        done += len(some)
        yield some


def is_compiled(svi: SVI, num_steps: int, settings: Settings) -> bool:
    """Whether the next step of a run of so many is to be compiled."""
    if settings.compile != "auto":
        return settings.compile is True
    # A callback may change Python values that a compiled model would not see.
    return settings.callback is None and num_steps >= worth_compiling(svi.num_sites)


def worth_compiling(num_sites: int) -> int:
    """Steps from which on compiling repays its seconds.

    Args:
        num_sites: sites that an eager step has visited in guide and model; 0 where none was taken.
    """
    if not num_sites:
        return ALWAYS_WORTH
    return min(ALWAYS_WORTH, STEPS_OF_COMPILING + SITES_OF_STARTING // num_sites)


def argument_stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Arguments]:
    """The arguments of every step: the same ones, or the batches of a DataLoader for ever."""
    if not is_loader(args):
        while True:
            yield args, kwargs
    loader = args[0]
    is_empty = False
    with suppress(TypeError):  # the length of a stream is not known
        is_empty = not len(loader)
    while not is_empty:
        is_empty = True
        for batch in loader:
            is_empty = False
            yield _as_arguments(batch, kwargs)
    raise InferenceError("SVI.run: expected batches from the DataLoader, got none; its dataset is empty")


def is_loader(args: tuple[Any, ...]) -> bool:
    """Whether the arguments are one DataLoader."""
    from torch.utils.data import DataLoader

    return len(args) == 1 and isinstance(args[0], DataLoader)


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
