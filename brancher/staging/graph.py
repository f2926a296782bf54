"""From a function of tensors to a pure graph: captured tensors become inputs, mutations become outputs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.overrides import TorchFunctionMode

from brancher.staging import backend
from brancher.staging.generators import SeedWatch
from brancher.staging.reasons import StagingError, explain, refuse_odd
from brancher.staging.rewriting.early import shorten
from brancher.staging.rewriting.loops import Loop, LoopCode
from brancher.staging.rewriting.simplify import simplify
from brancher.staging.structure import Structure, compile_build, constants_of, flatten

Tensor = torch.Tensor
_aten = torch.ops.aten
#: Held while a graph is recorded or lowered: torch keeps process-wide state meanwhile.
LOCK = threading.RLock()


@dataclass(slots=True)
class Traced:
    """A recorded function.

    Attributes:
        graph: inputs are the tensors of the arguments, then ``captured``; outputs the tensors of the result.
        captured: tensors that the function read from elsewhere (closures, module parameters), by reference.
        structure: containers of the result.
        constants: non-tensors of the result, in order.
        samples: shape and dtype of the tensors of the result.
    """

    graph: GraphModule
    captured: list[Tensor]
    structure: Structure
    constants: list[Any]
    samples: list[tuple[torch.Size, torch.dtype]]


@dataclass(slots=True)
class Pure:
    """A graph without side effects, ready to be compiled.

    Attributes:
        writes: ``(output, input)`` positions: after a call this output is to be copied into that input.
        changed: positions of all inputs that a call changes.
    """

    graph: GraphModule
    fakes: list[Tensor]
    outputs: int
    writes: list[tuple[int, int]]
    changed: list[int]


class _NoReading(TorchFunctionMode):
    """Refuses to read the memory of a tensor from outside the arguments: the tracer would not notice."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READERS and not backend.is_stand_in(args[0]):
            raise RuntimeError("DataDependent: the memory of a tensor from outside")
        return func(*args, **(kwargs or {}))


_READERS = (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.data_ptr)


def record(function: Callable[..., Any], args: tuple[Any, ...], name: str) -> Traced:
    """Record what a function does with the tensors of its arguments.

    Raises:
        StagingError: the function needs a tensor's value, sets the seed, draws random numbers that are not
            torch's, or does not trace otherwise.
    """
    tensors, structure = flatten(args)
    rebuild = compile_build(structure, constants_of(args))
    result: list[tuple[Structure, list[Any], list[tuple[torch.Size, torch.dtype]]]] = []

    def flat(*inputs: Tensor) -> list[Tensor]:
        with _NoReading():
            value = function(*rebuild(inputs))
        outputs, shape = flatten(value, "result")
        result.append((shape, constants_of(value), [(t.shape, t.dtype) for t in outputs]))
        return [output.detach() for output in outputs]

    watch = SeedWatch()
    try:
        with LOCK:
            graph, outside = backend.trace(flat, tensors)
    except StagingError:
        raise
    except Exception as error:
        raise explain(error, name) from error
    finally:
        moved = watch.moved()
        watch.restore()
    if moved is not None:
        raise StagingError(
            f"staged function '{name}': expected torch's random numbers, got {moved[0]}; {moved[1]}.",
            reason="seed",
        )
    _refuse_generators(graph, name)
    _settle_dtypes(graph)
    captured = _lift(graph, outside, name)
    return Traced(graph, captured, *result[-1])


def _refuse_generators(graph: GraphModule, name: str) -> None:
    """Refuse draws from a generator of the user's own: compiled code knows torch's global one alone."""
    for node in graph.graph.nodes:
        if node.op == "get_attr" and isinstance(getattr(graph, str(node.target)), torch.Generator):
            draw = next(iter(node.users)).target
            raise StagingError(
                f"staged function '{name}': expected draws from torch's global generator, got one of your "
                f"own in {draw}; leave generator= out, and call torch.manual_seed before.",
                reason="seed",
            )


def refuse_seeding(what: str) -> None:
    """Refuse to set the seed inside a function that is recorded: a graph would not set it again.

    Raises:
        StagingError: naming what sets it.
    """
    if backend.current_recorder() is not None:
        raise StagingError(
            f"{what}: expected random draws only in a function that is compiled, got a seed that is set "
            "inside; put it around the calls, or call torch.manual_seed before.",
            reason="seed",
        )


def _settle_dtypes(graph: GraphModule) -> None:
    """Write the default dtype of today into factories that left it open: the graph may be compiled later."""
    for node in graph.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        value = node.meta.get("val")
        if schema is None or not isinstance(value, Tensor) or node.kwargs.get("dtype") is not None:
            continue
        if schema.arguments and any(a.name == "dtype" and a.kwarg_only for a in schema.arguments):
            node.kwargs = {**node.kwargs, "dtype": value.dtype}


def _lift(graph: GraphModule, outside: dict[int, Tensor], name: str) -> list[Tensor]:
    """Turn numbers made while tracing into literals, and every other tensor in the graph into an input."""
    captured: list[Tensor] = []
    places: dict[int, Node] = {}
    last = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for node in list(graph.graph.nodes):
        if node.op != "get_attr":
            continue
        value = getattr(graph, str(node.target))
        if isinstance(value, GraphModule):
            _refuse_inner(value, name)
            continue
        if not isinstance(value, Tensor):
            continue
        if value.dim() == 0 and all(user.target is _aten.lift_fresh_copy.default for user in node.users):
            _inline(graph, node, value)
        else:
            real = outside.get(id(value), value)
            place = places.get(id(real))
            if place is None:
                refuse_odd(
                    real, f"staged function '{name}', tensor of shape {tuple(real.shape)} from outside"
                )
                with graph.graph.inserting_after(last[-1]) if last else graph.graph.inserting_before():
                    place = graph.graph.placeholder(f"captured_{len(captured)}")
                place.meta["val"] = value
                last.append(place)
                places[id(real)] = place
                captured.append(real)
            node.replace_all_uses_with(place)
        graph.graph.erase_node(node)
    graph.recompile()
    return captured


def _inline(graph: GraphModule, node: Node, value: Tensor) -> None:
    options: dict[str, Any] = {"dtype": value.dtype, "device": value.device, "pin_memory": False}
    for user in list(node.users):
        with graph.graph.inserting_before(user):
            literal = graph.graph.call_function(_aten.full.default, ([], value.item()), options)
        literal.meta = user.meta
        user.replace_all_uses_with(literal)
        graph.graph.erase_node(user)


def _refuse_inner(inner: GraphModule, name: str) -> None:
    if any(node.op == "get_attr" for node in inner.graph.nodes):
        raise StagingError(
            f"staged function '{name}': expected control flow whose branches get their tensors as operands, "
            "got a branch that reads one from outside; pass it as an operand.",
            reason="trace",
        )


def purify(
    traced: Traced,
    tensors: Sequence[Tensor],
    *,
    in_place: bool = False,
    compile_loop: Callable[[Loop], LoopCode | None] | None = None,
) -> Pure:
    """Remove mutations and aliases: new values of mutated inputs become outputs, shared memory is cloned.

    Args:
        traced: the recorded graph.
        tensors: its inputs.
        in_place: let the graph end by writing into mutated inputs whose memory no other input shares.
        compile_loop: as in `early.shorten`; None to leave what repeats unrolled.
    """
    recorded = traced.graph
    if compile_loop is not None:
        recorded = shorten(recorded, unshared(tensors), compile_loop)
    graph, fakes = backend.functional(recorded, tensors)
    _lift_literals(graph)
    simplify(graph)
    nodes = graph.graph
    inputs = [node for node in nodes.nodes if node.op == "placeholder"]
    output = next(node for node in nodes.nodes if node.op == "output")
    results: list[Node] = list(output.args[0])
    writes: list[tuple[int, int]] = []
    fresh: dict[Node, Node] = {}
    own = unshared(tensors) if in_place else set()
    changed = set()
    for node in [n for n in nodes.nodes if n.target is _aten.copy_.default and n.args[0] in inputs]:
        target, value = node.args[0], node.args[1]
        changed.add(inputs.index(target))
        if inputs.index(target) in own:
            continue
        node.replace_all_uses_with(value)
        nodes.erase_node(node)
        fresh[target] = value
    count = len(results)
    for target, value in fresh.items():
        writes.append((len(results), inputs.index(target)))
        results.append(value)
    draws = [n for n in nodes.nodes if not n.users and _draws(n)]
    owned = _own(graph, results, output)
    output.args = ([*owned, *draws],)
    output.meta["user_visible_output_idxs"] = list(range(len(owned)))
    nodes.eliminate_dead_code()
    graph.recompile()
    return Pure(graph, fakes, count, writes, sorted(changed))


def unshared(tensors: Sequence[Tensor]) -> set[int]:
    """Positions of tensors that share their memory with no other."""
    memory = [tensor.untyped_storage().data_ptr() for tensor in tensors]
    owners = Counter(memory)
    return {i for i, place in enumerate(memory) if owners[place] == 1}


def _lift_literals(graph: GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if node.op == "get_attr" and isinstance(value := getattr(graph, str(node.target)), Tensor):
            _inline(graph, node, value)
            graph.graph.erase_node(node)


def _draws(node: Node) -> bool:
    """Whether a node takes numbers from the generator: it must stay, or later draws would move."""
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def _own(graph: GraphModule, results: list[Node], output: Node) -> list[Node]:
    """Clone every result that shares memory with an input or with an earlier result."""
    taken = {_memory(node) for node in graph.graph.nodes if node.op == "placeholder"}
    owned = []
    for node in results:
        memory = _memory(node)
        if memory in taken:
            with graph.graph.inserting_before(output):
                clone = graph.graph.call_function(_aten.clone.default, (node,))
            clone.meta["val"] = node.meta["val"].clone()
            node = clone
        taken.add(memory)
        owned.append(node)
    return owned


def _memory(node: Node) -> int:
    storage: int = node.meta["val"].untyped_storage()._cdata
    return storage
