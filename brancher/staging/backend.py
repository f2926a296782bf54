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
from typing import TYPE_CHECKING, Any

import torch

from brancher.staging.garbage import no_collection
from brancher.staging.inductor import (
    draws_in_turn,
    known_vector_unit,
    late_templates,
    own_operations,
    rules_of_types_once,
)
from brancher.staging.rewriting.columns import tables
from brancher.staging.rewriting.decompositions import OWN_RULES

if TYPE_CHECKING:
    from brancher.staging.recorder import Recorder

Tensor = torch.Tensor
Runner = Callable[[list[Tensor]], Sequence[Tensor]]

# What is used, by module; checked by `self_test`.
_NAMES: dict[str, tuple[str, ...]] = {
    "torch.fx.experimental.proxy_tensor": ("make_fx", "get_innermost_proxy_mode", "_ProxyTensor"),
    "torch._subclasses.fake_tensor": ("FakeTensor", "FakeTensorMode", "in_kernel_invocation_manager"),
    "torch.utils._python_dispatch": ("TorchDispatchMode",),
    "torch.utils._pytree": ("tree_map",),
    "torch.fx.experimental.symbolic_shapes": ("ShapeEnv",),
    "torch.fx._lazy_graph_module": ("_make_graph_module", "_use_lazy_graph_module"),
    "torch._inductor": ("standalone_compile",),
    "torch._inductor.compile_fx": ("compile_fx_inner",),
    "torch._inductor.decomposition": ("select_decomp_table",),
    "torch._inductor.inductor_prims": ("force_stride_order",),
    "torch._inductor.fx_passes.joint_graph": ("constant_fold_uniform_value",),
    "torch._inductor.codegen.common": ("KernelTemplate",),
    "torch._inductor.graph": ("GraphLowering",),
    "torch._inductor.ir": ("ExternKernel", "ExternKernelOut", "FixedLayout", "TensorBox"),
    "torch._inductor.lowering": ("register_lowering",),
    "torch._inductor.custom_graph_pass": ("CustomGraphPass",),
    "torch._inductor.fx_passes.post_grad": ("_chain_random_ops_for_ordering",),
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
    "unroll_reductions_threshold": 16,  # rows this short are added up in registers
    "size_asserts": False,  # the guard has compared every size and stride
    "cpp.min_chunk_size": 4096,  # entries a thread: with 512, waking threads took 14 times what they did
}
#: Torch modules that tell of operations that are not fused, of files not saved, and at length of what fails.
_TALKATIVE = (
    *(f"torch._inductor.{name}" for name in ("ir", "standalone_compile", "scheduler", "utils")),
    "torch._subclasses.fake_tensor",
)
#: Where passes of ours run.
_PASSES = ("joint_custom_pre_pass", "post_grad_custom_pre_pass")


#: Graphs of so few entries, or of rows this short, get plain loops: vectors do not repay their masks and
#: shuffles (a mixture of two: 45 us with them, 31 without), nor their headers' compilation.
_FEW, _ROW = 64, 8


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
    for name in (*_SETTINGS, *_PASSES):
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

        from brancher.staging.recorder import Recorder
    fake = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv(), static_shapes=True)
    outside = Recorder(fake)

    def watched(*inputs: Tensor) -> Any:
        with outside:
            return function(*inputs)

    # A GPU's gradients would be taken in a thread of their own, where the stand-ins' bookkeeping is not.
    with _hushed(), lazily(), no_collection(), fake, torch.autograd.set_multithreading_enabled(False):
        graph = make_fx(watched, tracing_mode="fake")(*[fake.from_tensor(t) for t in tensors])
    return graph, {id(stand_in): real for real, stand_in in outside.found.values()}


def current_recorder() -> Recorder | None:
    """The mode that records here and now, or None."""
    if not torch._C._len_torch_dispatch_stack():
        return None
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    from brancher.staging.recorder import Recorder

    modes = _get_current_dispatch_mode_stack()
    return next((mode for mode in reversed(modes) if isinstance(mode, Recorder)), None)


def lazily() -> Any:
    """Let the text of graphs be written when they are run, which few are."""
    from torch.fx._lazy_graph_module import _use_lazy_graph_module

    return _use_lazy_graph_module(True)


def empty_like(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Return a graph without operations beside the attributes of another."""
    from torch.fx._lazy_graph_module import _make_graph_module

    with lazily():
        return _make_graph_module(graph, torch.fx.Graph())


def is_stand_in(tensor: Tensor) -> bool:
    """Whether a tensor has no values of its own (it belongs to a trace)."""
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor)


def stand_in_for_all(inputs: Sequence[torch.fx.Node]) -> bool:
    """Give every input of a recorded graph a stand-in in its meta; false where there is no example of one."""
    known: list[Any] = [value for node in inputs if is_stand_in(value := node.meta["val"])]
    for node in inputs:
        if known and not is_stand_in(node.meta["val"]):
            node.meta["val"] = known[0].fake_mode.from_tensor(node.meta["val"].detach())
    return bool(known)


def functional(
    graph: torch.fx.GraphModule, tensors: Sequence[Tensor]
) -> tuple[torch.fx.GraphModule, list[Tensor]]:
    """Return the graph decomposed and without mutations; ``copy_`` into inputs remains at its end."""
    with _quiet(), no_collection():
        importlib.import_module("torch._inductor.lowering")  # the rule for max pooling takes it as there
        from torch._inductor.decomposition import select_decomp_table
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
    fakes: list[Tensor] = [mode.from_tensor(t.detach()) for t in tensors]
    with lazily(), torch.no_grad(), no_collection(), _settings():
        table = {**select_decomp_table(), **OWN_RULES}
        pure = torch.func.functionalize(graph, remove="mutations")
        return make_fx(pure, decomposition_table=table, tracing_mode="fake")(*fakes), fakes


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Silence what torch's compiler writes to its logs; what fails is told by a warning of ours."""
    if threading.current_thread() is not threading.main_thread():  # they belong to the whole process
        yield
        return
    logs = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's compiler warns about itself; the user's own code never runs in here."""
    if threading.current_thread() is not threading.main_thread():  # filters belong to the whole process
        yield
        return
    with _hushed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    from brancher.staging.emitting.native import compiler

    with _quiet():
        import torch._inductor.config as settings

    found = compiler()
    chosen = {} if found is None else {"cpp.cxx": (found,)}  # torch takes $CXX, whatever it is
    with _quiet(), settings.patch({**_SETTINGS, **chosen, **more}), known_vector_unit():
        yield


def lower(graph: torch.fx.GraphModule, fakes: Sequence[Tensor]) -> str:
    """Return Inductor's C++ wrapper module for a functional graph on the CPU, as text."""
    with _quiet(), no_collection(), late_templates():
        from torch._dynamo import utils
        from torch._inductor.compile_fx import compile_fx_inner
        from torch._inductor.fx_passes.joint_graph import constant_fold_uniform_value
        from torch._inductor.graph import GraphLowering

        own_operations()
        passes = dict.fromkeys(_PASSES, draws_in_turn())

    def stop(code: str) -> None:
        raise _Captured(code)

    previous, keeper = GraphLowering.save_output_code, utils.preserve_rng_state
    plain = {"cpp.simdlen": 1} if _is_short(graph) else {}
    with torch.no_grad(), no_collection(), _settings(**plain, **passes), rules_of_types_once():
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


def _is_short(graph: torch.fx.GraphModule) -> bool:
    """Whether vectors would not pay: few entries, or nearly all of them in short rows."""
    by_columns = tables(graph.graph)
    sizes, in_rows = [0], 0
    for node in graph.graph.nodes:
        if isinstance(value := node.meta.get("val"), Tensor):
            sizes.append(value.numel())
            if node in by_columns or (value.dim() and value.shape[-1] >= _ROW):
                in_rows += value.numel()
    return in_rows < 0.2 * sum(sizes) or max(sizes) <= _FEW


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

        passes = dict.fromkeys(_PASSES, draws_in_turn())

    with torch.no_grad(), _settings(cpp_wrapper=False, force_disable_caches=False, **passes):
        artifact = standalone_compile(graph, list(fakes), dynamic_shapes="from_example_inputs")
    return lambda tensors: artifact(*tensors)
