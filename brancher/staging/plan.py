"""One compiled specialisation of a staged function: these structures, shapes, dtypes and constants."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from brancher.staging import backend
from brancher.staging.compiled import Compiled, compile_graph
from brancher.staging.graph import Traced
from brancher.staging.reasons import StagingError, compiler_failed
from brancher.staging.structure import Structure, compile_build, compile_match

Tensor = torch.Tensor


def environment() -> tuple[Hashable, ...]:
    """Return the process and thread settings that change what a function computes."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"),
        torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda"),
        torch.get_default_device() if backend.has_function_modes() else None,
    )


def tensor_key(tensors: Sequence[Tensor]) -> tuple[Hashable, ...]:
    """Return what the graph depends on in its tensors: everything but their values."""
    each = tuple((type(t), t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for t in tensors)
    return each, backend.same_tensors(tensors)


class Plan:
    """A compiled function for one cache key.

    ``plan.take(args)`` gives the tensors of the arguments, or None where they do not fit this plan;
    ``plan.run(tensors)`` gives the tensors of the result; ``plan.build(tensors)`` puts those in their
    containers. A loop that keeps its tensors in lists calls ``run`` alone.
    """

    __slots__ = (
        *("_guard", "_match", "build", "captured", "changed", "compiled", "environment", "samples"),
        "traced",
    )

    def __init__(
        self, traced: Traced, structure: Structure, tensors: Sequence[Tensor], compiled: Compiled
    ) -> None:
        self.traced = traced
        self.captured = traced.captured
        self.compiled = compiled
        #: Captured tensors that a run changes.
        self.changed = [traced.captured[i - len(tensors)] for i in compiled.changed if i >= len(tensors)]
        self.environment = environment()
        self.samples = traced.samples
        self.build: Callable[[Sequence[Tensor]], Any] = compile_build(traced.structure, traced.constants)
        self._match = compile_match(structure)
        self._guard = backend.Guard([*tensors, *traced.captured]).check

    def take(self, args: tuple[Any, ...]) -> list[Tensor] | None:
        """Return the tensors of the arguments, or None where another plan is needed."""
        tensors = self._match(args)
        if tensors is None or not self._guard(*tensors, *self.captured) or self.environment != environment():
            return None
        return tensors

    def fits(self, tensors: list[Tensor]) -> bool:
        """Whether these tensors and the captured ones are still as they were when the plan was made."""
        return self._guard(*tensors, *self.captured)

    def run(self, tensors: list[Tensor]) -> Sequence[Tensor]:
        """Run the graph once; tensors that the function mutates are updated in place."""
        compiled = self.compiled
        inputs = [*tensors, *self.captured] if self.captured else tensors
        outputs = compiled.run(inputs)
        if compiled.writes:
            self.write_back(outputs, inputs)
        return outputs

    def write_back(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        """Copy new values of mutated inputs into them."""
        with torch.no_grad():
            for out, into in self.compiled.writes:
                inputs[into].copy_(outputs[out])


def make_plan(traced: Traced, structure: Structure, tensors: Sequence[Tensor], name: str) -> Plan:
    """Compile a recorded function for these tensors.

    Raises:
        StagingError: no C++ compiler, the compiler failed, or this torch has moved what is needed.
    """
    try:
        return Plan(traced, structure, tensors, compile_graph(traced, [*tensors, *traced.captured], name))
    except StagingError:
        raise
    except Exception as error:
        raise compiler_failed(name, error, backend.self_test()) from error
