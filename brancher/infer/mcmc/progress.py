"""One bar for a run: draws done, phase, step size, divergences."""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING, Any

from brancher.infer.mcmc.engine import STATS

if TYPE_CHECKING:
    from brancher.infer.mcmc.sampler import Sampler

_DIVERGING = STATS.index("diverging")


class Progress:
    """A tqdm bar, or nothing.

    Args:
        total: draws of all samplers, warmup included.
        done: how many there are already.
        warmup_steps: of one sampler.
        shown: whether to show it.
    """

    def __init__(self, total: int, done: int, warmup_steps: int, shown: bool) -> None:
        self.total, self.done, self.warmup_steps, self.shown = total, done, warmup_steps, shown
        self._before: dict[int, int] = {}
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self.shown:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self.total, initial=self.done, unit="draw", dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, sampler: Sampler) -> None:
        """Show how far a sampler is."""
        if self._bar is None:
            return
        done = sampler.num_done
        self._bar.update(done - self._before.get(id(sampler), min(done, self.done)))
        self._before[id(sampler)] = done
        _, stats = sampler.draws()
        step = math.exp(float(sampler.state.chain.step.log_step.mean()))
        phase = "warmup" if done < self.warmup_steps else "sample"
        diverged = int(stats[..., _DIVERGING].sum())
        self._bar.set_description(phase, refresh=False)
        self._bar.set_postfix_str(f"step size {step:.3g}, {diverged} divergences")

    def advance(self, draws: int) -> None:
        """Count draws that were made elsewhere."""
        if self._bar is not None:
            self._bar.update(draws)
