"""What Inductor is made to do otherwise. Written for torch 2.13; `backend` names what is used."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch

from brancher.staging.rewriting.loops import DRAWS, LOOP, loop_of
from brancher.staging.rewriting.scalars import KEPT


@functools.cache
def own_operations() -> None:
    """Let Inductor lower loops to calls of their code (`loop_code`), and keep numbers (`scalars`)."""
    from torch._inductor import ir
    from torch._inductor.lowering import register_lowering

    class Call(ir.ExternKernelOut):
        """A call with pointers to the inputs and to the result."""

        def codegen(self, wrapper: Any) -> None:
            pointers = [f"(const char*)({each.codegen_reference()}.data_ptr())" for each in self.inputs]  # type: ignore[union-attr]
            pointers.append(f"(char*)({self.get_name()}.data_ptr())")
            wrapper.writeline(f"{self.constant_args[0]}({', '.join(pointers)});")

    def lower(tensors: list[Any], number: int) -> Any:
        loop = loop_of(number)
        code: Any = loop.code
        layout = ir.FixedLayout(torch.device("cpu"), loop.dtype, [loop.length], [1])
        inputs = [_plain(ir.ExternKernel, tensor) for tensor in tensors]
        return ir.TensorBox.create(Call(layout, inputs, (code.name,)))

    def keep(number: Any) -> Any:
        number.realize()
        return number

    for target in (LOOP, DRAWS):
        register_lowering(target, type_promotion_kind=None)(lower)
    register_lowering(KEPT, type_promotion_kind=None)(keep)


@functools.cache
def draws_in_turn() -> Any:
    """A pass that ties random operations to their order, before Inductor replaces patterns.

    Inductor ties them afterwards. Its pattern for rows picked by ``randperm``, which is there in a process
    where anything has gone through its front door, moves the permutation behind draws that follow it.
    """
    from torch._inductor.custom_graph_pass import CustomGraphPass
    from torch._inductor.fx_passes.post_grad import _chain_random_ops_for_ordering

    class InTurn(CustomGraphPass):
        def __call__(self, graph: torch.fx.Graph) -> None:
            _chain_random_ops_for_ordering(graph)

        def uuid(self) -> str:
            return "brancher: draws in turn"

    return InTurn()


def _plain(kernel: Any, tensor: Any) -> Any:
    """A tensor with memory of its own from its first entry on."""
    made = kernel.require_contiguous(kernel.realize_input(tensor))
    is_part = made.get_layout().offset != 0
    return kernel.copy_input(made) if is_part else made


@contextlib.contextmanager
def known_vector_unit() -> Iterator[None]:
    """Let Inductor take the vector unit that torch runs on, where it would compile programs to find out.

    Those programs (one for each of AVX-512's extensions, seven in all) take longer than a small graph.
    """
    from torch._inductor import cpu_vec_isa

    names = {"AVX2": "VecAVX2", "AVX512": "VecAVX512"}
    name = names.get(torch.backends.cpu.get_cpu_capability())
    if name is None:
        yield
        return
    base: Any = getattr(cpu_vec_isa, name)
    unit: Any = type(name, (base,), {"__bool__": lambda _: True, "__hash__": base.__hash__})
    previous = cpu_vec_isa.valid_vec_isa_list
    cpu_vec_isa.valid_vec_isa_list = lambda: [unit()]  # type: ignore[assignment]
    try:
        yield
    finally:
        cpu_vec_isa.valid_vec_isa_list = previous


@contextlib.contextmanager
def late_templates() -> Iterator[None]:
    """Let Inductor's kernel templates for GPUs be parsed when one is used, not when they are imported."""
    from torch._inductor.codegen.common import KernelTemplate

    parse = KernelTemplate._template_from_string

    class Late:
        def __init__(self, source: str) -> None:
            self.source = source

        def __getattr__(self, name: str) -> Any:
            return getattr(parse(self.source), name)

    KernelTemplate._template_from_string = staticmethod(Late)  # type: ignore[method-assign]
    try:
        yield
    finally:
        KernelTemplate._template_from_string = staticmethod(parse)  # type: ignore[method-assign]


@contextlib.contextmanager
def rules_of_types_once() -> Iterator[None]:
    """Let Inductor set its rules of dtypes up once, where it would for every operation (14 % of its work)."""
    from torch._inductor import dtype_propagation, utils

    handler: Any = dtype_propagation.DtypePropagationOpsHandler
    set_up, known = handler.__init__, [-1]

    def once(self: Any) -> None:
        rules = len(utils.op_dtype_propagation_rules)
        if rules != known[0]:
            set_up(self)
            known[0] = rules

    handler.__init__ = once
    try:
        yield
    finally:
        handler.__init__ = set_up
