"""A step of SVI as one compiled graph: draws, loss, gradient, finite check and optimizer."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Hashable
from contextlib import ExitStack
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from brancher.distributions.validation import validation_enabled
from brancher.errors import BrancherWarning, OptimError
from brancher.handlers import stack
from brancher.handlers.messenger import Messenger
from brancher.infer.checks import shapes_of
from brancher.infer.elbo import ELBO
from brancher.optim.flat import Buffers, FlatOptimizer, lacks_state
from brancher.params import current_store
from brancher.staging import RandomState, StagedLoop, StagingError, Surroundings, stage_loop
from brancher.staging.structure import flatten

if TYPE_CHECKING:
    from brancher.infer.svi import SVI

Tensor = torch.Tensor

#: Kinds of arguments that are many.
MANY_KINDS = 32


class Carry(NamedTuple):
    """What one step hands to the next, beside the parameters and the optimizer's state, which it overwrites.

    Attributes:
        loss: what the loss has learned beside the parameters.
        done: steps done in this call, an int64 scalar; None where every step has the same rates.
    """

    loss: dict[str, Tensor]
    done: Tensor | None


@dataclass(frozen=True)
class Fixed:
    """What the graph depends on beside tensors, as one constant of the cache key.

    Attributes:
        around: number for the Python values that model, guide and loss read from outside.
        training: train or eval mode of every module that model and guide use.
        blocks: names of the parameters and options of the optimizer, block by block.
    """

    around: int
    training: tuple[bool, ...]
    blocks: Hashable


class CompiledStep:
    """Runs compiled steps for one :class:`SVI`.

    The first step with arguments of a new shape, or with another Python value around model and
    guide, runs eagerly: it declares parameters, gives the optimizer its state, shows which
    parameters such steps move, and is checked like any first step. What can not be compiled runs
    eagerly ever after, with one warning that says why.

    Args:
        svi: the SVI to step.
    """

    def __init__(self, svi: SVI) -> None:
        self.svi = svi
        #: The parameters that steps with arguments of a kind move, by kinds; equal sets are one object.
        self._seen: dict[Hashable, frozenset[str]] = {}
        self._moved: frozenset[str] = frozenset()
        self._last: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._flat: FlatOptimizer | None = None
        #: Steps done since ``_flat`` was made and the loss of the last one, as the graph writes them.
        self._report = torch.zeros(2, dtype=torch.float64)
        self._done = 0
        self._store: Hashable = None
        self._refused = False
        self._told: set[str] = set()
        self._failure: Exception | None = None
        self._parts: list[torch.nn.Module] = []
        self._fixed = Fixed(0, (), ())
        self._around = Surroundings([])
        self._state = 0
        self._watching = False
        self._program: tuple[Any, ...] = (svi.model, svi.guide, svi.loss)
        self._loop = self._new_loop()

    def _new_loop(self) -> StagedLoop:
        return stage_loop(
            self._step,
            until=_is_bad,
            name="SVI.step",
            on_fallback=lambda error: self._refuse(str(error)),
            names=("carry", "rates", "optimizer", "report", "settings", "args", "kwargs"),
        )

    @property
    def counters(self) -> Any:
        """Traces, compiles, loads and fallbacks."""
        return self._loop.counters

    def restart(self) -> None:
        """Begin anew with the optimizer that the SVI has now, by an eager step; compiled graphs stay."""
        self._seen.clear()
        self._last = self._flat = None

    def _follow(self, program: tuple[Any, ...]) -> None:
        """Begin anew with another model, guide or loss."""
        counters = self.counters
        self._program, self._loop, self._refused = program, self._new_loop(), False
        self._loop.staged.counters = counters
        self._around = Surroundings([])
        self.restart()

    def eager_step_done(self, args: tuple[Any, ...], kwargs: dict[str, Any], moved: frozenset[str]) -> None:
        """Note that a checked, eager step with these arguments has passed, and moved these parameters."""
        if self._watching:  # else nobody has asked for compiled steps
            self._around.settle()
            self._state = self._around.state()
            alike = (known for known in self._seen.values() if known == moved)
            self._seen[self._state, _kind(args, kwargs)] = next(alike, moved)
            self._tell_of_kinds()
        self._watching = False
        self._store = current_store().token()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._refuse(
                f"SVI.step: expected a graph that gives what eager steps give, got {type(failure).__name__}: "
                f"{failure}."
            )

    def run(self, steps: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[float]:
        """Take up to ``steps`` compiled steps in one call.

        Returns:
            The losses. They are fewer than asked for where the next step's loss or gradient is
            not finite, where an eager step has to come first, or where nothing can be compiled;
            random state and parameters stand right before that step then.
        """
        svi, (model, guide, loss) = self.svi, self._program
        if svi.model is not model or svi.guide is not guide or svi.loss is not loss:
            self._follow((svi.model, svi.guide, svi.loss))
        if self._refused or not self._is_known(args, kwargs):
            return []
        try:
            flat = self._prepare()
            if flat is None:
                return []
            schedule = flat.schedule
            rates = schedule.advance(steps)
        except OptimError as error:
            self._refuse(str(error))
            return []
        consts, rng = (flat.buffers, self._report, self._fixed, args, kwargs), RandomState()
        written = self._loop.staged.changed_tensors  # what the model itself changes: buffers of batch norm
        if steps > 1:
            written = [*written, self._report, *flat.tensors()]
        copies = [tensor.clone() for tensor in written]
        fallbacks, traces = self._loop.counters.fallbacks, self._loop.counters.traces
        try:
            carry, rows = self._call(self._carry(rates), steps, rates, consts)
        except BaseException as error:
            if steps == 1 and self._last_is_done():
                raise
            schedule.rewind()
            rng.restore()
            _put_back(written, copies)
            if not isinstance(error, Exception):
                raise
            self._failure = error  # an index out of range, say: the eager step can tell what is wrong
            return []
        self._refused = self._loop.counters.fallbacks > fallbacks
        if self._loop.counters.traces > traces:
            self._around.settle()
        self._watching = False
        losses = [loss for loss, good in rows if good]
        if len(losses) < len(rows):
            schedule.rewind()
            rng.restore()
            _put_back(written, copies)
            if not losses:
                return []
            # The good steps once more: they end right before the bad one.
            rates = schedule.advance(len(losses))
            carry, _ = self._call(self._carry(rates), len(losses), rates, consts)
        if carry.loss:
            self.svi.loss.load_state_dict(carry.loss)
        self._done += len(losses)
        return losses

    def _last_is_done(self) -> bool:
        """Count the last single step where an interrupt came after its work."""
        done, loss = self._report.tolist()
        if done == self._done:
            return False
        self._done += 1
        self.svi.steps += 1
        self.svi.history.append(loss)
        return True

    def _is_known(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a checked step with such arguments has passed, on the parameters that are there now."""
        if stack.current() and (acting := _acting()):
            self._tell(
                f"SVI.step: expected no handler around a compiled step, got '{acting[0]}'; put it around the "
                f"model, as in SVI({acting[0]}(model, ...), guide)."
            )
            return False
        if self._flat is not None and not self._flat.trains_alike():
            self.restart()
        if self._around.is_empty:
            self._around = Surroundings(self._program, settings=[self.svi.loss])
        state = self._around.state()
        if state != self._state:
            self._state, self._last = state, None
        if self._around.is_restless:
            self._refuse(
                "SVI.step: expected Python values around model and guide that stay, got many changes, the "
                f"last one of '{self._around.changed}'; pass it as an argument, as a tensor."
            )
            return False
        self._watching = True
        if self._store != current_store().token():
            return False
        last = self._last
        is_plain = last is not None and not kwargs and not last[1] and len(args) == len(last[0])
        if last is not None and is_plain and all(map(is_, args, last[0])):
            return True  # the objects of the step before; a tensor resized in place the graph notices
        moved = self._seen.get((state, _kind(args, kwargs)))
        if moved is None:
            return False
        self._last, self._moved = (args, kwargs), moved
        return True

    def _call(
        self, carry: Carry, steps: int, rates: tuple[Tensor, ...], consts: tuple[Any, ...]
    ) -> tuple[Carry, list[list[float]]]:
        if steps == 1:
            carry, outcome = self._loop.step(carry, rates, *consts)
            return carry, [outcome.tolist()]
        result = self._loop(carry, steps, rates, *consts)
        return result.carry, result.outputs.tolist()

    def _prepare(self) -> FlatOptimizer | None:
        """The optimizer's buffers; None where it has to take an eager step first."""
        flat = self._flat
        is_same = flat is not None and flat.optimizer is self.svi.optim and flat.names is self._moved
        if flat is None or not is_same or not flat.is_current():
            if not self._moved or lacks_state(self.svi.optim, self._moved):
                return None
            flat = self._flat = FlatOptimizer(self.svi.optim, self._moved)
            self._report, self._done = torch.zeros(2, dtype=torch.float64, device=flat.devices[0]), 0
            roots = [fn for fn in (self.svi.model, self.svi.guide) if isinstance(fn, torch.nn.Module)]
            self._parts = [part for root in (*roots, *current_store().modules()) for part in root.modules()]
            blocks = tuple((tuple(block.names), block.options) for block in flat.blocks)
            self._fixed = Fixed(self._state, (), blocks)
        training = tuple([part.training for part in self._parts])
        if training != self._fixed.training or self._state != self._fixed.around:
            self._fixed = Fixed(self._state, training, self._fixed.blocks)
        if flat.has_hooks():
            self._tell(
                "SVI.step: expected parameters and an optimizer without hooks, got some, which a graph does "
                "not call; remove them by handle.remove()."
            )
            return None
        return flat

    def _step(
        self,
        carry: Carry,
        rates: tuple[Tensor, ...],
        blocks: tuple[Buffers, ...],
        report: Tensor,
        _fixed: Any,
        args: Any,
        kwargs: Any,
    ) -> Any:
        flat = self._flat
        if flat is None:
            raise OptimError("SVI.step: expected a bound optimizer, got none")
        trainable = {
            name: leaf.detach().requires_grad_()
            for block, buffers in zip(flat.blocks, blocks, strict=True)
            for name, leaf in zip(block.names, block.split(buffers.params), strict=True)
        }
        svi, is_elbo = self.svi, isinstance(self.svi.loss, ELBO)
        with torch.enable_grad(), validation_enabled(False), ExitStack() as undo:
            undo.enter_context(stack.restored())
            undo.enter_context(self._around.left_alone("SVI.step"))
            undo.enter_context(current_store().substituted(trainable))
            if is_elbo:
                undo.callback(svi.loss.load_state_dict, svi.loss.state_dict())
                svi.loss.load_state_dict(carry.loss)
            seen, loss, grads = svi.gradients_of(args, kwargs)
            learned = svi.loss.state_dict() if is_elbo else {}
        by_name = dict(zip(seen.params, grads, strict=True))
        good, updated = torch.isfinite(loss), []
        with torch.no_grad():
            for block, buffers, rate in zip(flat.blocks, blocks, rates, strict=True):
                now = rate if carry.done is None else _row(rate, carry.done)
                new, largest = block.update(buffers, [by_name.get(name) for name in block.names], now)
                good = good & torch.isfinite(largest)
                updated.append(new)
            for old, new in zip(blocks, updated, strict=True):
                _write(old, new, good)
            report.copy_(torch.stack([report[0] + good, loss.to(report)]))
        done = None if carry.done is None else carry.done + 1
        return Carry(learned, done), torch.stack([loss, good.to(loss)])

    def _carry(self, rates: tuple[Tensor, ...]) -> Carry:
        loss = self.svi.loss.state_dict() if isinstance(self.svi.loss, ELBO) else {}
        return Carry(loss, _zero(rates[0].device) if rates[0].dim() else None)

    def _tell(self, reason: str) -> None:
        """Say once why steps are eager for now."""
        if reason not in self._told:
            self._told.add(reason)
            warnings.warn(f"{reason} Meanwhile steps run eagerly.", BrancherWarning, stacklevel=6)

    def _tell_of_kinds(self) -> None:
        if len(self._seen) == MANY_KINDS:
            warnings.warn(
                f"SVI.step: expected arguments that come again, got {MANY_KINDS} kinds of them, of which the "
                "first step is eager; pass changing numbers as tensors, pad batches to one shape.",
                BrancherWarning,
                stacklevel=6,
            )
        elif len(self._seen) > 100 * MANY_KINDS:
            self._seen.clear()

    def _refuse(self, reason: str) -> None:
        self._refused = True
        warnings.warn(f"{reason} Steps run eagerly.", BrancherWarning, stacklevel=6)


def _acting() -> list[str]:
    """Names of the open handlers that look at messages: all but those like ``seed``."""
    plain = Messenger.process_message, Messenger.postprocess_message
    kinds: list[type[Messenger]] = [type(handler) for handler in stack.current()]
    return [kind.__qualname__ for kind in kinds if (kind.process_message, kind.postprocess_message) != plain]


def _kind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """Equal for arguments of one structure with tensors of the same shapes and other values alike."""
    try:
        tensors, structure = flatten((args, kwargs), any_layout=True)
    except StagingError:
        return shapes_of(args), shapes_of(kwargs)
    return structure, tuple([(tensor.shape, tensor.dtype) for tensor in tensors])


def _is_bad(_carry: Carry, outcome: Tensor) -> Tensor:
    return outcome[1] == 0


def _row(rates: Tensor, step: Tensor) -> Tensor:
    return rates.index_select(0, step.to(rates.device).reshape(1)).reshape(())


def _write(old: Buffers, new: Buffers, good: Tensor) -> None:
    """Overwrite parameters and state where ``good`` is true."""
    pairs = [(old.params, new.params), *((old.state[key], new.state[key]) for key in old.state)]
    for now, value in pairs:
        now.copy_(torch.where(good.to(now.device), value, now))


def _put_back(written: list[Tensor], copies: list[Tensor]) -> None:
    for tensor, before in zip(written, copies, strict=True):
        tensor.copy_(before)


@functools.cache
def _zero(device: torch.device) -> Tensor:
    return torch.zeros((), dtype=torch.int64, device=device)
