"""Many steps of a staged function in one call.

On the CPU the loop runs in C++ around the compiled step (`native`), so one compilation serves the single step
and the loop. Elsewhere, and where the function could not be staged, it runs in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch

from brancher.staging import backend
from brancher.staging.emitting import native
from brancher.staging.plan import Plan
from brancher.staging.reasons import StagingError
from brancher.staging.staged import Mode, Staged
from brancher.staging.structure import Constant, Node, Structure, compile_build, constants_of, flatten

Tensor = torch.Tensor
Step = Callable[..., tuple[Any, Any]]
Until = Callable[[Any, Any], Tensor]


class LoopResult(NamedTuple):
    """What a loop gives back.

    Attributes:
        carry: the carried tensors after the last step.
        outputs: every step's outputs, stacked on a new first dimension of length ``steps``.
        steps: steps done; fewer than asked where ``until`` ended the loop.
    """

    carry: Any
    outputs: Any
    steps: int


class StagedLoop:
    """A step that feeds its own carry; see `stage_loop`."""

    def __init__(
        self,
        step: Step,
        *,
        until: Until | None = None,
        name: str | None = None,
        mode: Mode = True,
        on_fallback: Callable[[StagingError], None] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        label: str = name or getattr(step, "__qualname__", "") or type(step).__name__

        def whole(carry: Any, *consts: Any) -> tuple[Any, Any, Any]:
            new, outputs = _checked(step(carry, *consts), carry, label)
            return new, outputs, None if until is None else until(new, outputs)

        self.staged = Staged(whole, name=label, mode=mode, on_fallback=on_fallback, names=names)
        self._until = until is not None
        self._rigs: dict[int, _Rig] = {}

    @property
    def counters(self) -> Any:
        """How often the step was traced, compiled, loaded, and given up."""
        return self.staged.counters

    def step(self, carry: Any, *consts: Any) -> tuple[Any, Any]:
        """Run one step."""
        new, outputs, _ = self.staged(carry, *consts)
        return new, outputs

    def __call__(self, carry: Any, steps: int, *consts: Any) -> LoopResult:
        """Run up to ``steps`` steps (at least one)."""
        if steps < 1:
            raise ValueError(
                f"staged loop '{self.staged.name}': expected steps >= 1, got {steps}; ask for one."
            )
        plan = self.staged.ready(carry, *consts)
        if plan is None or plan.compiled.library is None:
            return self._in_python(carry, steps, consts)
        rig = self._rigs.get(id(plan))
        if rig is None:
            rig = self._rigs[id(plan)] = _Rig(plan, len(flatten(carry)[0]), self._until)
        tensors = plan.take((carry, *consts))
        return rig.run(tensors if tensors is not None else flatten((carry, *consts))[0], steps)

    def _in_python(self, carry: Any, steps: int, consts: tuple[Any, ...]) -> LoopResult:
        leaves = flatten(carry)[0]
        rows: list[list[Tensor]] = []
        outputs: Any = None
        for _ in range(steps):
            carry, outputs, stop = self.staged(carry, *consts)
            for new, old in zip(flatten(carry)[0], leaves, strict=True):
                new.requires_grad_(old.requires_grad)
            rows.append(flatten(outputs)[0])
            if stop is not None and bool(stop):
                break
        stacked = [torch.stack(column) for column in zip(*rows, strict=True)]
        build = compile_build(flatten(outputs)[1], constants_of(outputs))
        for leaf in flatten(carry)[0]:
            leaf.requires_grad_(False)
        return LoopResult(carry, build(stacked), len(rows))


class _Rig:
    """How the inputs and outputs of one plan are wired into a loop."""

    def __init__(self, plan: Plan, carried: int, until: bool) -> None:
        self.plan = plan
        carry, outputs, _ = plan.traced.structure.children  # type: ignore[union-attr]
        self.carried = carried
        samples = plan.samples
        count = plan.compiled.outputs
        self.rows = list(range(carried, count - 1 if until else count))
        self.stop = count - 1 if until else -1
        self.samples = [samples[i] for i in self.rows]
        self.pairs = [(i, i) for i in range(carried)] + plan.compiled.writes
        self.build_carry = compile_build(carry, plan.traced.constants)
        skip = _constants(carry)
        self.build_outputs = compile_build(outputs, plan.traced.constants[skip:])

    @cached_property
    def runner(self) -> backend.Runner:
        return backend.load(str(self.plan.compiled.library), 2)

    def run(self, tensors: Sequence[Tensor], steps: int) -> LoopResult:
        tables = [torch.empty((steps, *shape), dtype=dtype, device="cpu") for shape, dtype in self.samples]
        sizes = [table[0].numel() * table.element_size() for table in tables]
        written = list(zip(self.rows, sizes, strict=True))
        control = torch.tensor(native.control(steps, self.stop, self.pairs, written), device="cpu")
        inputs = [*tensors, *self.plan.captured]
        results = self.runner([control, *tables, *inputs])
        self.plan.write_back(results, inputs)
        done = int(control[0])
        kept = tables if done == steps else [table[:done] for table in tables]
        return LoopResult(self.build_carry(results[: self.carried]), self.build_outputs(kept), done)


def _constants(structure: Structure) -> int:
    if isinstance(structure, Node):
        return sum(_constants(child) for child in structure.children)
    return int(isinstance(structure, Constant))


def _checked(result: Any, carry: Any, name: str) -> tuple[Any, Any]:
    """Compare the carry that a step gave with the one that it got; make what is fed back contiguous."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise StagingError(
            f"staged loop '{name}': expected a step that returns (carry, outputs), got "
            f"{type(result).__name__}; return both, with () for no outputs.",
            reason="arguments",
        )
    new, before = flatten(result[0], "carry"), flatten(carry, "carry")
    if new[1] != before[1]:
        raise StagingError(
            f"staged loop '{name}': expected the carry's structure back, got another; "
            "return the same containers.",
            reason="arguments",
        )
    for position, (after, old) in enumerate(zip(new[0], before[0], strict=True)):
        if (after.shape, after.dtype, after.device) != (old.shape, old.dtype, old.device):
            raise StagingError(
                f"staged loop '{name}': expected carried tensor {position} as {tuple(old.shape)} "
                f"{old.dtype}, got {tuple(after.shape)} {after.dtype}; give back the same shape and dtype.",
                reason="arguments",
            )
    outputs = flatten(result[1], "outputs")
    carry_again = compile_build(new[1], constants_of(result[0]))([t.contiguous() for t in new[0]])
    outputs_again = compile_build(outputs[1], constants_of(result[1]))([t.contiguous() for t in outputs[0]])
    return carry_again, outputs_again


def stage_loop(
    step: Step,
    *,
    until: Until | None = None,
    name: str | None = None,
    mode: Mode = True,
    on_fallback: Callable[[StagingError], None] | None = None,
    names: Sequence[str] = (),
) -> StagedLoop:
    """Compile a step ``(carry, *consts) -> (carry, outputs)`` to be run many times in one call.

    Args:
        step: gives back a carry of the same containers, shapes and dtypes, and one step's outputs.
        until: ``(carry, outputs) -> bool tensor``, part of the compiled step; the loop ends after a step
            where it is true.
        name: for messages.
        mode: as in `stage`.
        on_fallback: as in `stage`.
        names: as in `stage`, of the carry and the constants.

    Example:
        >>> double = stage_loop(lambda x: (2 * x, x), mode=False)
        >>> double(torch.tensor(1.0), 4).outputs
        tensor([1., 2., 4., 8.])
    """
    return StagedLoop(step, until=until, name=name, mode=mode, on_fallback=on_fallback, names=names)


def staged_loop(step: Step, carry: Any, steps: int, *consts: Any) -> LoopResult:
    """Run a step ``steps`` times in one compiled call; keep a `stage_loop` where it is run again.

    Example:
        >>> int(staged_loop(lambda x: (x + 1, ()), torch.tensor(0), 3).steps)
        3
    """
    return StagedLoop(step)(carry, steps, *consts)
