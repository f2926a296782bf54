"""From a recorded graph to something callable: the disk cache, the native library, the general artifact."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule, Node

from brancher.staging import backend, cache
from brancher.staging.emitting import headers, native
from brancher.staging.emitting.ahead_code import Before
from brancher.staging.emitting.loop_code import loop_code
from brancher.staging.graph import LOCK, Traced, purify, unshared
from brancher.staging.reasons import no_compiler
from brancher.staging.rewriting.ahead import split
from brancher.staging.rewriting.columns import lay_out_products
from brancher.staging.rewriting.loops import Loop, LoopCode, forget, loop_of, numbers_of
from brancher.staging.rewriting.scalars import compute_beforehand
from brancher.staging.structure import Leaf

Tensor = torch.Tensor


@dataclass(slots=True)
class Compiled:
    """A compiled graph.

    Attributes:
        run: tensors of the arguments and the captured ones in, list of tensors out.
        outputs: how many of those are results; new values of mutated inputs follow.
        writes: ``(output, input)`` to copy back after a call.
        changed: positions of inputs that a call changes.
        library: the native library, or None (then a loop runs in Python).
        loaded: whether the library came from the disk.
    """

    run: backend.Runner
    outputs: int
    writes: list[tuple[int, int]]
    changed: list[int]
    library: Path | None
    loaded: bool


def compile_graph(traced: Traced, tensors: Sequence[Tensor], name: str) -> Compiled:
    """Compile a recorded graph, or load it where this machine has compiled it before.

    Raises:
        StagingError: no C++ compiler.
        Exception: whatever the compiler raised.
    """
    native_device = all(t.device.type == "cpu" for t in tensors)
    key = _key(traced, tensors) if native_device else None
    known = None if key is None else _load(key)
    if known is not None:
        return known
    compiler = native.compiler()
    if compiler is None:
        raise no_compiler(name)
    return _compile(traced, tensors, compiler, key)


def _load(key: str) -> Compiled | None:
    hit = cache.load(key)
    if hit is None:
        return None
    library, facts = hit
    try:
        runner = backend.load(str(library), 1)
    except RuntimeError:  # a file cut short: it is built again
        return None
    writes = [(out, into) for out, into in facts["writes"]]
    return Compiled(runner, facts["outputs"], writes, facts["changed"], library, True)


def _compile(traced: Traced, tensors: Sequence[Tensor], compiler: str, key: str | None) -> Compiled:
    wrapper = source = None
    codes: list[LoopCode] = []
    with LOCK:
        if key is not None:
            pure = purify(traced, tensors, in_place=True, compile_loop=_compile_loop)
            loops = numbers_of(pure.graph)
            codes = [code for number in loops if (code := loop_of(number).code) is not None]
            lay_out_products(pure.graph)
            ahead = split(pure, tensors)
            before = None if ahead is None else Before(ahead, backend.lower(ahead.graph, ahead.fakes))
            compute_beforehand(pure.graph)
            wrapper = backend.lower(pure.graph, pure.fakes)
            forget(loops)
            source = native.library_source(wrapper, codes, before)
        if source is None or wrapper is None or key is None:
            pure = purify(traced, tensors)
            run = backend.compile_artifact(pure.graph, pure.fakes)
            return Compiled(run, pure.outputs, pure.writes, pure.changed, None, False)
    folder = cache.scratch()
    library = folder / f"{key}.so"
    # This version of torch may write a name that small headers lack.
    _build(source, native.library_source(wrapper, codes, before, small_headers=False), compiler, library)
    if folder == cache.directory():
        facts = {"outputs": pure.outputs, "writes": pure.writes, "changed": pure.changed}
        cache.store(key, folder, facts)
    return Compiled(backend.load(str(library), 1), pure.outputs, pure.writes, pure.changed, library, False)


def _compile_loop(loop: Loop) -> LoopCode | None:
    """Lower one turn of a loop."""
    samples = [torch.empty(value.shape, dtype=value.dtype) for value in loop.samples]
    pure = purify(Traced(loop.body, [], Leaf(), [], []), samples)
    return loop_code(loop, backend.lower(pure.graph, pure.fakes))


def _build(source: str, full: str | None, compiler: str, library: Path) -> None:
    """Run the C++ compiler, with small headers where they are enough; ``full`` has torch's own."""
    text = library.with_suffix(f".{os.getpid()}.cpp")
    text.write_text(source)
    if headers.is_lean(source):
        try:
            native.build(headers.command(compiler), text, library)
        except subprocess.CalledProcessError:
            text.write_text(str(full))
        else:
            text.unlink()
            return
    with LOCK:
        command = backend.compile_command(compiler)
    tag = cache.digest(*command, torch.__version__, str(torch.version.git_version))
    native.build([*command, *native.header_flags(library.parent, tag)], text, library)
    text.unlink()
    if library.parent == cache.directory():
        native.precompile_headers(command, library.parent, tag)


def _key(traced: Traced, tensors: Sequence[Tensor]) -> str | None:
    text = fingerprint(traced.graph)
    if " at 0x" in text:  # an object without a value of its own: nothing another process could compare
        return None
    inputs = [(tuple(t.shape), t.stride(), str(t.dtype)) for t in tensors]
    alone = sorted(unshared(tensors))
    settings = (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
    )
    return cache.digest(text, repr(inputs), repr(alone), repr(settings), _machine())


@functools.cache
def _machine() -> str:
    """What a library depends on beside its graph: torch, Python, this package's files, the processor."""
    info = Path("/proc/cpuinfo")
    flags = (
        [line for line in info.read_text().splitlines() if line.startswith("flags")] if info.exists() else []
    )
    processor = flags[0] if flags else platform.processor()
    own = "".join(path.read_text() for path in sorted(Path(__file__).parent.rglob("*.py")))
    return cache.digest(torch.__version__, str(torch.version.git_version), sys.version, processor, own)


def fingerprint(graph: GraphModule) -> str:
    """Return a text that is equal for equal graphs, in this process and in others."""
    names: dict[Node, str] = {}
    lines = []
    for node in graph.graph.nodes:
        names[node] = f"%{len(names)}"
        target: Any = node.target
        inner = getattr(graph, target, None) if node.op == "get_attr" else None
        if isinstance(inner, GraphModule):
            target = fingerprint(inner)
        elif node.op == "placeholder":
            target = ""
        shown = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: _Name(names[n]))
        lines.append(f"{names[node]}={node.op} {target} {shown!r}")
    return "\n".join(lines)


class _Name(str):
    """A node's name inside a printed argument list."""

    __slots__ = ()
    __repr__: Callable[[Any], str] = str.__str__  # type: ignore[assignment]
