"""Functions of tensors, compiled: the only place that knows the compiler. It knows nothing of probability."""

from brancher.staging.export import export
from brancher.staging.generators import RandomState, random_state_kept
from brancher.staging.loop import LoopResult, StagedLoop, stage_loop, staged_loop
from brancher.staging.reasons import StagingError
from brancher.staging.staged import Counters, Staged, is_available, stage
from brancher.staging.surroundings import Surroundings

__all__ = [
    "Counters",
    "LoopResult",
    "RandomState",
    "Staged",
    "StagedLoop",
    "StagingError",
    "Surroundings",
    "export",
    "is_available",
    "random_state_kept",
    "stage",
    "stage_loop",
    "staged_loop",
]
