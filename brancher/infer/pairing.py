"""Run a guide and its model on the same draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brancher.handlers import Trace, replay, trace


def paired_traces(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Trace, Trace]:
    """Trace the guide, then the model replayed on the guide's draws.

    Returns:
        The trace of the model and the trace of the guide.
    """
    guide_trace = trace(guide).get_trace(*args, **kwargs)
    model_trace = trace(replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    return model_trace, guide_trace
