"""Every private name of torch that the package uses, and nothing else knows them.

Written for torch 2.13. `self_test` says which names a torch version has moved; staging then runs eagerly.
Nothing here is imported before the first use: Inductor takes seconds to import.

Two ways to compile:

* CPU: the graph is functionalised and decomposed here, lowered by ``compile_fx_inner`` to C++ text, and
  built as a library of our own (`native`). This leaves out AOTAutograd (a second trace, and a wrapper that
  costs 20 us a call), the attention patterns (1 s), and the probe of the vector unit (4 s).
* other devices, and graphs that call back into Python: ``standalone_compile``.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import shlex
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from brancher.staging.decompositions import OWN_RULES
from brancher.staging.garbage import no_collection

Tensor = torch.Tensor
Runner = Callable[[list[Tensor]], Sequence[Tensor]]

# What is used, by module; checked by `self_test`.
_NAMES: dict[str, tuple[str, ...]] = {
    "torch.fx.experimental.proxy_tensor": ("make_fx",),
    "torch._subclasses.fake_tensor": ("FakeTensor", "FakeTensorMode"),
    "torch.utils._python_dispatch": ("TorchDispatchMode",),
    "torch.utils._pytree": ("tree_map",),
    "torch.fx.experimental.symbolic_shapes": ("ShapeEnv",),
    "torch._inductor": ("standalone_compile",),
    "torch._inductor.compile_fx": ("compile_fx_inner",),
    "torch._inductor.decomposition": ("select_decomp_table",),
    "torch._inductor.inductor_prims": ("force_stride_order",),
    "torch._inductor.fx_passes.joint_graph": ("constant_fold_uniform_value",),
    "torch._inductor.codegen.common": ("KernelTemplate",),
    "torch._inductor.graph": ("GraphLowering",),
    "torch._inductor.dtype_propagation": ("DtypePropagationOpsHandler",),
    "torch._inductor.utils": ("op_dtype_propagation_rules",),
    "torch._inductor.cpp_builder": ("CppBuilder", "CppTorchDeviceOptions"),
    "torch._inductor.cpu_vec_isa": ("pick_vec_isa", "valid_vec_isa_list", "VecAVX2", "VecAVX512"),
    "torch._C._aoti": ("AOTIModelContainerRunnerCpu",),
    "torch._C._dynamo.guards": ("TensorGuards",),
}
_SETTINGS = {
    "cpp_wrapper": True,
    "fallback_random": True,  # the numbers of eager for the same seed
    "force_disable_caches": True,  # the cache is ours
    "compile_threads": 1,  # one graph at a time: a pool of processes costs more than it gives
    "size_asserts": False,  # the guard has compared every size and stride
    "cpp.min_chunk_size": 4096,  # entries a thread: with 512, waking threads took 14 times what they did
}


#: Graphs of so few entries, or of rows this short, get plain loops: vectors do not repay their masks and
#: shuffles (a mixture of two: 45 us with them, 31 without), nor their headers' compilation.
_FEW, _ROW = 64, 16


def self_test() -> list[str]:
    """Return the private names that this torch lacks; an empty list means that staging can work."""
    missing = []
    for module, names in _NAMES.items():
        try:
            with _quiet():
                holder = importlib.import_module(module)
        except ImportError:
            try:  # names inside torch._C are attributes, not modules
                holder = importlib.import_module(module.rpartition(".")[0])
                holder = getattr(holder, module.rpartition(".")[2])
            except (ImportError, AttributeError):
                missing.append(module)
                continue
        missing += [f"{module}.{name}" for name in names if not hasattr(holder, name)]
    if not missing:
        missing += _missing_hooks()
    return missing


def _missing_hooks() -> list[str]:
    import torch._inductor.config as settings
    from torch._inductor.graph import GraphLowering

    missing = [] if hasattr(GraphLowering, "save_output_code") else ["GraphLowering.save_output_code"]
    for name in _SETTINGS:
        holder: Any = settings
        for part in name.split("."):
            holder = getattr(holder, part, _NAMES)
        if holder is _NAMES:
            missing.append(f"torch._inductor.config.{name}")
    return missing


class Guard:
    """Checks type, dtype, device, size, stride and requires_grad of a list of tensors in one C++ call.

    Which of them are one and the same tensor is part of the check: a recorded graph reads such a tensor once.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        # 0.7 us for 30 tensors; a tuple of their properties in Python takes 13 us.
        places = same_tensors(tensors)
        kept = [i for i, first in enumerate(places) if i == first]
        own = [tensors[i] for i in kept]
        sizes: Any = [list(t.shape) for t in own]
        strides: Any = [list(t.stride()) for t in own]
        guards = torch._C._dynamo.guards.TensorGuards(
            *own, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides
        )
        self.check: Callable[..., bool] = guards.check
        if len(kept) < len(tensors):  # the C++ check refuses a tensor that it meets twice
            twins = [(i, first) for i, first in enumerate(places) if i != first]

            def check(*given: Tensor) -> bool:
                return all(given[i] is given[j] for i, j in twins) and guards.check(*[given[i] for i in kept])

            self.check = check


def same_tensors(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """For each tensor, the position where it comes first."""
    first: dict[int, int] = {}
    return tuple(first.setdefault(id(tensor), i) for i, tensor in enumerate(tensors))


def has_function_modes() -> bool:
    """Whether any torch-function mode is active; a default device is one, and asking for it costs 5 us."""
    return bool(torch._C._len_torch_function_stack())


def trace(
    function: Callable[..., Any], tensors: Sequence[Tensor]
) -> tuple[torch.fx.GraphModule, dict[int, Tensor]]:
    """Record the operations of a function; nothing is computed, drawn or mutated.

    Returns:
        The graph, and the tensors that it read from outside, by the ``id`` of the stand-in that it holds.
    """
    with _quiet(), no_collection():
        importlib.import_module("torch._inductor.config")  # what make_fx imports at its first call
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import ShapeEnv
    fake = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv(), static_shapes=True)
    outside = _outside_mode(fake)

    def watched(*inputs: Tensor) -> Any:
        with outside:
            return function(*inputs)

    # A GPU's gradients would be taken in a thread of their own, where the stand-ins' bookkeeping is not.
    with no_collection(), fake, torch.autograd.set_multithreading_enabled(False):
        graph = make_fx(watched, tracing_mode="fake")(*[fake.from_tensor(t) for t in tensors])
    return graph, {id(stand_in): real for real, stand_in in outside.found.values()}


def _outside_mode(fake: Any) -> Any:
    """Return a mode that replaces tensors from outside the arguments by stand-ins without values.

    Left alone, the tracer computes with them: buffers would be updated by the trace itself, and the value of
    one read by ``.item()`` would be burned in.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Outside(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.found: dict[int, tuple[Tensor, Tensor]] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default):
                return func(*args, **(kwargs or {}))  # a number made inside the function
            args, kwargs = torch.utils._pytree.tree_map(
                lambda part: self.stand_in(part, func), (args, kwargs or {})
            )
            return func(*args, **kwargs)

        def stand_in(self, part: Any, func: Any) -> Any:
            if not isinstance(part, Tensor) or is_stand_in(part):
                return part
            if torch.Tag.data_dependent_output in func.tags:
                raise RuntimeError("DataDependent: the value of a tensor from outside")
            if id(part) not in self.found:
                self.found[id(part)] = part, fake.from_tensor(part.detach())
            return self.found[id(part)][1]

    return Outside()


def is_stand_in(tensor: Tensor) -> bool:
    """Whether a tensor has no values of its own (it belongs to a trace)."""
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor)


def functional(
    graph: torch.fx.GraphModule, tensors: Sequence[Tensor]
) -> tuple[torch.fx.GraphModule, list[Tensor]]:
    """Return the graph decomposed and without mutations; ``copy_`` into inputs remains at its end."""
    with _quiet(), no_collection():
        from torch._inductor.decomposition import select_decomp_table
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
    fakes: list[Tensor] = [mode.from_tensor(t.detach()) for t in tensors]
    with torch.no_grad(), no_collection(), _settings():
        table = {**select_decomp_table(), **OWN_RULES}
        pure = torch.func.functionalize(graph, remove="mutations")
        return make_fx(pure, decomposition_table=table, tracing_mode="fake")(*fakes), fakes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's compiler warns about itself; the user's own code never runs in here."""
    if threading.current_thread() is not threading.main_thread():  # filters belong to the whole process
        yield
        return
    log = logging.getLogger("torch._inductor.ir")  # tells of every operation that it does not fuse
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


_warming: list[threading.Thread] = []


def is_warm() -> bool:
    """Whether the tracer is imported; starts importing it in a thread where it is not (2 s)."""
    if not _warming:
        names = ("torch._inductor.config", "torch.fx.experimental.symbolic_shapes")
        work = threading.Thread(target=lambda: [importlib.import_module(n) for n in names], daemon=True)
        _warming.append(work)
        work.start()
        work.join(0.001)  # enough where it is imported already
    return not _warming[0].is_alive()


class _Captured(BaseException):
    """Carries the generated code out of Inductor before it starts a compiler of its own."""


@contextlib.contextmanager
def _settings(**more: Any) -> Iterator[None]:
    with _quiet():
        import torch._inductor.config as settings

    with _quiet(), settings.patch({**_SETTINGS, **more}), _known_vector_unit():
        yield


@contextlib.contextmanager
def _known_vector_unit() -> Iterator[None]:
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
def _late_templates() -> Iterator[None]:
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


def lower(graph: torch.fx.GraphModule, fakes: Sequence[Tensor]) -> str:
    """Return Inductor's C++ wrapper module for a functional graph on the CPU, as text."""
    with _quiet(), no_collection(), _late_templates():
        from torch._dynamo import utils
        from torch._inductor.compile_fx import compile_fx_inner
        from torch._inductor.fx_passes.joint_graph import constant_fold_uniform_value
        from torch._inductor.graph import GraphLowering

    def stop(code: str) -> None:
        raise _Captured(code)

    previous, keeper = GraphLowering.save_output_code, utils.preserve_rng_state
    plain = {"cpp.simdlen": 1} if _is_short(graph) else {}
    with torch.no_grad(), no_collection(), _settings(**plain), _rules_of_types_once():
        constant_fold_uniform_value(graph)
        GraphLowering.save_output_code = stop
        # Lowering draws nothing, and another thread may draw beside it: its numbers must not be taken back.
        utils.preserve_rng_state = contextlib.nullcontext  # type: ignore[assignment]
        try:
            compile_fx_inner(graph, list(fakes), cpp_wrapper=True, is_inference=True)
        except _Captured as captured:
            return str(captured.args[0])
        finally:
            GraphLowering.save_output_code, utils.preserve_rng_state = previous, keeper
    raise RuntimeError("Inductor gave no code")


@contextlib.contextmanager
def _rules_of_types_once() -> Iterator[None]:
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


def _is_short(graph: torch.fx.GraphModule) -> bool:
    """Whether vectors would not pay: few entries, or nearly all of them in short rows."""
    shapes = [value.shape for node in graph.graph.nodes if isinstance(value := node.meta.get("val"), Tensor)]
    whole = sum(shape.numel() for shape in shapes)
    in_rows = sum(shape.numel() for shape in shapes if shape and shape[-1] >= _ROW)
    return in_rows < 0.2 * whole or max((shape.numel() for shape in shapes), default=0) <= _FEW


def compile_command(compiler: str) -> list[str]:
    """Return the command that builds a library, without source and target."""
    with _quiet():
        from torch._inductor.cpp_builder import CppBuilder, CppTorchDeviceOptions
        from torch._inductor.cpu_vec_isa import pick_vec_isa

    with _settings(**{"cpp.cxx": (compiler,), "cpp_cache_precompile_headers": False}):
        options = CppTorchDeviceOptions(vec_isa=pick_vec_isa(), device_type="cpu", include_pytorch=True)
        line = CppBuilder(name="o", sources="SOURCE", BuildOption=options).get_command_line()
    drop = ("SOURCE", "-Wall", "-pedantic", "-g1")
    words = [word for word in shlex.split(line) if word not in drop]
    cut = words.index("-o")
    # Torch's headers fill 300 MB: collecting garbage among them takes a fifth of the time.
    spend = ["--param", "ggc-min-heapsize=1000000"] if Path(compiler).name.startswith("g++") else []
    return [*words[:cut], *words[cut + 2 :], "-w", *spend]


def load(library: str, models: int) -> Runner:
    """Load a library; ``models`` chooses its mode (see `native`)."""
    run: Runner = torch._C._aoti.AOTIModelContainerRunnerCpu(library, models).run
    return run


def compile_artifact(graph: torch.fx.GraphModule, fakes: Sequence[Tensor]) -> Runner:
    """Compile a functional graph for any device with Inductor's own front door."""
    with _quiet():
        from torch._inductor import standalone_compile

    with torch.no_grad(), _settings(cpp_wrapper=False, force_disable_caches=False):
        artifact = standalone_compile(graph, list(fakes), dynamic_shapes="from_example_inputs")
    return lambda tensors: artifact(*tensors)
