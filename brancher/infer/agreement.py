"""Which way of running many draws gives what single runs give."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch

from brancher.distributions.validation import validation_enabled
from brancher.errors import InferenceError
from brancher.handlers import Trace
from brancher.handlers.density import SCORED, score
from brancher.infer.lanes import in_lanes, why_no_lanes
from brancher.infer.replicate import Layout, Run, Values, Way, aside, in_batch, in_loop


class Choice(NamedTuple):
    """How to run many draws.

    Attributes:
        way: the function that does it.
        name: "batch", "lanes" or "loop".
        reason: why the faster ways are wrong for this model, or None.
    """

    way: Way
    name: str
    reason: str | None = None

    @property
    def vectorized(self) -> bool:
        """Whether draws run together."""
        return self.name != "loop"


BATCH, LANES, LOOP = Choice(in_batch, "batch"), Choice(in_lanes, "lanes"), Choice(in_loop, "loop")


def choose(run: Run, layout: Layout, num_samples: int, parallel: bool | None) -> Choice:
    """Choose the fastest way that gives what single runs give.

    Args:
        run: one run.
        layout: what a run shows.
        num_samples: how many draws there will be.
        parallel: True for a batch unseen, False for a loop, None to compare.

    Raises:
        InferenceError: ``parallel`` is something else.
    """
    if parallel not in (None, True, False):
        raise InferenceError(f"parallel: expected True, False or None, got {parallel!r}; None finds out")
    if parallel is not None or num_samples == 1:
        return BATCH if parallel else LOOP
    no_batch = why_not(BATCH, run, layout)
    if no_batch is None:
        return BATCH
    no_lanes = why_no_lanes(layout, num_samples) or why_not(LANES, run, layout)
    if no_lanes is None:
        return LANES._replace(reason=no_batch)
    return LOOP._replace(reason=f"{no_batch}; {no_lanes}")


def why_not(choice: Choice, run: Run, layout: Layout) -> str | None:
    """Say why a way of running draws together would be wrong, or None where it is right.

    A few draws are run together, then the first two each alone with the same values. Every value
    and every log-density must be the same both times.
    """
    size = _trial_size(layout)
    with aside(), validation_enabled(False):
        try:
            together = choice.way(run, _everything, layout, _trial_draws(layout.given, size), size)
        except Exception as error:  # whatever the user's code raises
            return f"{choice.name}: fails with {type(error).__name__}: {error}"
        for i in range(2):
            values = {name: v for name, v in together.items() if name.startswith(_VALUE)}
            now = {name.removeprefix(_VALUE): v[i, None] for name, v in values.items()}
            try:
                alone = in_loop(run, _everything, layout, now, 1)
            except Exception as error:
                return f"{choice.name}: its draws fail alone with {type(error).__name__}: {error}"
            for name, value in alone.items():
                if name not in together or not _close(together[name][i], value[0]):
                    return f"{choice.name}: the {name} mixes the draws"
    return None


def _trial_size(layout: Layout) -> int:
    """The least number of draws that no dimension of the model has: draws must not pass for its rows."""
    sites = [site for record in layout.traces for site in record.sites()]
    values = [site.value for site in sites if isinstance(site.value, torch.Tensor)]
    taken = {size for value in values for size in value.shape}
    return next(size for size in itertools.count(2) if size not in taken)


def _trial_draws(given: Values, size: int) -> dict[str, torch.Tensor]:
    """The first draw and one that differs from it, by turns: equal ones would hide that draws are mixed."""
    if not given:
        return {}
    rows = torch.cat([value.reshape(value.shape[0], -1).double().cpu() for value in given.values()], dim=1)
    differs = (rows != rows[0]).any(1).nonzero()
    other = int(differs[0]) if len(differs) else 0
    rows_taken = [other if i % 2 else 0 for i in range(size)]
    return {name: value[rows_taken] for name, value in given.items()}


_VALUE = "value of "


def _everything(traces: Sequence[Trace]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for number, record in enumerate(traces):
        for site in record.sites("sample", "deterministic", "factor", "plate"):
            if site.type != "factor":
                found[_VALUE + site.name] = site.value
            if site.type in SCORED:
                found[f"log-density {number} of {site.name}"] = score(site)
        value = record.nodes["_RETURN"].value if "_RETURN" in record else None
        if isinstance(value, torch.Tensor):
            found[f"return value {number}"] = value
    return found


def _close(together: torch.Tensor, alone: torch.Tensor) -> bool:
    if together.shape != alone.shape:
        return False
    together, alone = together.double(), alone.double()
    size = float(alone[torch.isfinite(alone)].abs().max()) if bool(torch.isfinite(alone).any()) else 1.0
    return torch.allclose(together, alone, rtol=1e-3, atol=1e-4 * size, equal_nan=True)
