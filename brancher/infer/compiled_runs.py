"""Many runs of a model as one compiled call, for ``Predictive`` and ``log_likelihood``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch

from brancher.distributions.validation import validation_enabled
from brancher.errors import BrancherWarning
from brancher.handlers import stack
from brancher.infer.agreement import Choice
from brancher.infer.replicate import Layout, Read, Run, Values, Way
from brancher.params import current_store
from brancher.staging import StagingError, Surroundings, stage

#: Makes the function of one run from the model's arguments.
MakeRun = Callable[[tuple[Any, ...], dict[str, Any]], Run]


class _Now(NamedTuple):
    """What the function that is compiled needs beside tensors."""

    make_run: MakeRun
    way: Way
    read: Read
    layout: Layout
    size: int


class CompiledRuns:
    """A way of making many draws, compiled.

    Compiled anew for arguments of other shapes or other Python values, for other values around the
    functions, for another number of draws, for other parameters, train or eval modes and handlers. What can
    not be compiled runs eagerly, with one warning that says why.

    Args:
        owner: what the user called, for messages.
        *functions: what runs: the model, and a guide if there is one.
    """

    def __init__(self, owner: str, *functions: Any) -> None:
        self._owner = owner
        self._around = Surroundings(functions)
        self._now: _Now | None = None
        self._has_warned = False
        self._staged = stage(self._call, name=owner, on_fallback=self._tell)

    @property
    def counters(self) -> Any:
        """Traces, compiles, loads and fallbacks."""
        return self._staged.counters

    def way(
        self,
        choice: Choice,
        make_run: MakeRun,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sites: tuple[str, ...],
    ) -> Way:
        """The compiled form of a way of making draws.

        Args:
            choice: the way; a loop over draws stays as it is, for it would be as long in the graph.
            make_run: makes one run.
            args: for the model.
            kwargs: for the model.
            sites: names of what is read, a part of the key.
        """
        if not choice.vectorized:
            self._warn(f"expected draws that run together, got a model whose draws can not: {choice.reason}")
            return choice.way
        around = self._around
        state = around.state()
        if around.is_restless:
            self._warn(
                "expected Python values around the model that stay, got many changes, the last one of "
                f"'{around.changed}' (pass it as a tensor)"
            )
            return choice.way

        def compiled(_run: Run, read: Read, layout: Layout, given: Values, size: int) -> dict[str, Any]:
            self._now = _Now(make_run, choice.way, read, layout, size)
            store = current_store()
            modes, traces = (state, _modes()), self.counters.traces
            fixed: Hashable = (choice.name, size, sites, store.token(), modes, stack.current())
            result: dict[str, torch.Tensor] = self._staged(
                dict(given), store.unconstrained(), args, kwargs, fixed
            )
            if self.counters.traces > traces:
                around.settle()
            return result

        return compiled

    def _call(self, given: Values, params: Values, args: Any, kwargs: Any, _fixed: Hashable) -> Any:
        now = self._now
        if now is None:
            raise RuntimeError(f"{self._owner}: expected to be called by way(), got a call from elsewhere")
        alone = self._around.left_alone(self._owner)
        with torch.no_grad(), validation_enabled(False), current_store().substituted(params), alone:
            return now.way(now.make_run(args, kwargs), now.read, now.layout, given, now.size)

    def _tell(self, error: StagingError) -> None:
        self._warn(str(error).rstrip("."))

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{self._owner}: {reason}; it runs eagerly", BrancherWarning, stacklevel=5)


def _modes() -> tuple[bool, ...]:
    return tuple([part.training for root in current_store().modules() for part in root.modules()])
