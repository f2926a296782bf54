"""The mode that watches a trace: it keeps tensors from outside apart, and records operations that it knows.

A tracer takes half a millisecond for an operation, of which a loop of a thousand moments has a hundred
thousand. Nearly all of them are like an earlier one: the same operation on tensors of the same shapes. Those
are recorded here, with what the earlier one gave; all others go on to the tracer. Written for torch 2.13.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from torch.fx import Node, Proxy
from torch.utils._python_dispatch import TorchDispatchMode

Tensor = torch.Tensor
_aten = torch.ops.aten
_LIFTS = (_aten.lift_fresh.default, _aten.lift_fresh_copy.default)
_INDEXED = (_aten.select.int, _aten.select_backward.default)  # what they give is alike for all indices
_DEVICE = torch.ops.prim.device.default
_PLAIN = (int, float, bool, type(None), str, torch.dtype, torch.device, torch.layout, torch.memory_format)


class _Kind(NamedTuple):
    """What an operation gave.

    Attributes:
        shape: of the result.
        stride: of the result.
        dtype: of the result.
        device: of the result.
        value: stand-in in the node's meta.
        name: of the node.
        is_view: whether it shares memory with an argument.
    """

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    value: Tensor
    name: str
    is_view: bool


class Recorder(TorchDispatchMode):
    """Replaces tensors from outside the arguments by stand-ins without values, and records known operations.

    Left alone, the tracer computes with tensors from outside: buffers would be updated by the trace itself,
    and the value of one read by ``.item()`` would be burned in.

    Args:
        fake: the mode of the trace's stand-ins.
    """

    def __init__(self, fake: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch._subclasses import fake_tensor
        from torch.fx.experimental import proxy_tensor

        self.found: dict[int, tuple[Tensor, Tensor]] = {}
        self._fake = fake
        self._stand_in: Any = fake_tensor.FakeTensor
        self._in_kernel = fake_tensor.in_kernel_invocation_manager
        self._proxies = proxy_tensor
        self._tracer: Any = None
        self._known: dict[Hashable, _Kind] = {}
        self._fits: dict[Any, bool | None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE and type(args[0]) is self._stand_in:
            return args[0].fake_device
        if func in _LIFTS:
            return func(*args, **(kwargs or {}))  # a number made inside the function
        kwargs = kwargs or {}
        key = self._key(func, args, kwargs)
        if key is not None and (kind := self._known.get(key)) is not None:
            return self._record(func, args, kwargs, kind)
        args, kwargs = torch.utils._pytree.tree_map(lambda part: self._inside(part, func), (args, kwargs))
        result = func(*args, **kwargs)
        if key is not None:
            self._learn(func, args, kwargs, key, result)
        else:  # what is written into goes by the name of the operation that has written
            for part in (*args, *kwargs.values(), result):
                for each in part if isinstance(part, (list, tuple)) else (part,):
                    if type(each) is self._stand_in:
                        each.__dict__.pop("_seen", None)
        return result

    def has_read(self, value: Any) -> bool:
        """Whether a value is a tensor from outside that an operation has taken."""
        return id(value) in self.found and self.found[id(value)][0] is value

    def _inside(self, part: Any, func: Any) -> Any:
        if not isinstance(part, Tensor) or isinstance(part, self._stand_in):
            return part
        if torch.Tag.data_dependent_output in func.tags:
            raise RuntimeError("DataDependent: the value of a tensor from outside")
        if id(part) not in self.found:
            self.found[id(part)] = part, self._fake.from_tensor(part.detach())
        return self.found[id(part)][1]

    def _key(self, func: Any, args: Any, kwargs: Any) -> Hashable | None:
        """Equal for operations that give alike; None where that is not known."""
        fits = self._fits.get(func)
        if fits is None:
            fits = self._fits[func] = _gives_one_new(func) or _gives_a_view(func)
        if not fits:
            return None
        parts: list[Any] = [func]
        for argument in args[:-1] if func in _INDEXED else args:
            part = self._part(argument)
            if part is None:
                return None
            parts.append(part)
        for name, argument in kwargs.items():
            part = self._part(argument)
            if part is None:
                return None
            parts.append((name, part))
        return tuple(parts)

    def _part(self, argument: Any) -> Hashable | None:
        kind = type(argument)
        if kind is self._stand_in:
            return self._seen(argument)
        if kind in _PLAIN:
            return kind, argument
        if kind in (list, tuple):
            parts = [self._part(each) for each in argument]
            return None if None in parts else tuple(parts)
        return None

    def _seen(self, tensor: Any) -> Hashable | None:
        """What a stand-in is to an operation; None where the trace does not know it, or knows its value."""
        seen = tensor.__dict__.get("_seen")
        if seen is None:
            tracker = self._tracker()
            known = None if tracker is None else tracker.get(tensor)
            if known is None or known.constant is not None or tensor.constant is not None:
                return None
            facts = (tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.fake_device)
            tensor._seen = seen = (facts, known.proxy.node)
        return seen[0]  # type: ignore[no-any-return]

    def _tracker(self) -> Any:
        if self._tracer is None:
            mode = self._proxies.get_innermost_proxy_mode()
            self._tracer = None if mode is None else mode.tracer
        return None if self._tracer is None else self._tracer.tensor_tracker

    def _learn(self, func: Any, args: Any, kwargs: Any, key: Hashable, result: Any) -> None:
        """Remember what the tracer has made of an operation, where that is one node of its own."""
        tracker = self._tracker()
        if tracker is None or type(result) is not self._stand_in:
            return
        known = tracker.get(result)
        if known is None or known.constant is not None or result.constant is not None:
            return
        node, value = known.proxy.node, known.proxy.node.meta.get("val")
        given = self._nodes(args), self._nodes(kwargs)
        if node.target is not func or (tuple(node.args), dict(node.kwargs)) != given or value is None:
            return
        facts = (result.shape, result.stride(), result.dtype, result.fake_device)
        is_view = _gives_a_view(func)
        if is_view or not result.storage_offset():
            self._known[key] = _Kind(*facts, value, str(func.overloadpacket.__name__), is_view)

    def _record(self, func: Any, args: Any, kwargs: Any, kind: _Kind) -> Any:
        """Write a node, and give a stand-in like that of an earlier one."""
        if kind.is_view:
            with self._in_kernel(self._fake):
                inner = func(*args, **kwargs)
        else:
            guard = torch._C._DisableTorchDispatch()
            inner = _aten.empty_strided.default(kind.shape, kind.stride, dtype=kind.dtype, device="meta")
            del guard
        made: Any = self._stand_in(self._fake, inner, kind.device)
        node = self._tracer.graph.create_node(
            "call_function", func, self._nodes(args), self._nodes(kwargs), kind.name
        )
        node.meta["val"] = kind.value
        self._tracer.tensor_tracker[made] = self._proxies._ProxyTensor(Proxy(node, self._tracer), None)
        made._seen = ((tuple(kind.shape), kind.stride, kind.dtype, kind.device), node)
        return made

    def _nodes(self, argument: Any) -> Any:
        """Arguments with nodes in the place of stand-ins."""
        if type(argument) is self._stand_in:
            node: Node = argument._seen[1]
            return node
        if isinstance(argument, tuple):
            return tuple(self._nodes(each) for each in argument)
        if isinstance(argument, list):
            return [self._nodes(each) for each in argument]
        if isinstance(argument, dict):
            return {name: self._nodes(each) for name, each in argument.items()}
        return argument


def _gives_one_new(func: Any) -> bool:
    """Whether an operation does nothing but give one tensor that shares no memory."""
    if not _is_calm(func) or torch.Tag.nondeterministic_seeded in func.tags:
        return False
    return all(argument.alias_info is None for argument in func._schema.arguments)


def _gives_a_view(func: Any) -> bool:
    """Whether an operation does nothing but give one tensor that is a view of another."""
    if not _is_calm(func):
        return False
    shared = [argument for argument in func._schema.arguments if argument.alias_info is not None]
    return len(shared) == 1 and not shared[0].alias_info.is_write


def _is_calm(func: Any) -> bool:
    if not isinstance(func, torch._ops.OpOverload) or func.namespace not in ("aten", "prims"):
        return False
    odd = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view}
    if odd & set(func.tags) or func._schema.is_mutable or len(func._schema.returns) != 1:
        return False
    implicit = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    return str(func._schema.returns[0].type) == "Tensor" and not implicit
