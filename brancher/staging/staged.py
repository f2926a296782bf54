"""A function of tensors, traced once a cache key, compiled, and called with little Python."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

import torch

from brancher.errors import BrancherWarning
from brancher.staging import backend
from brancher.staging.emitting import native
from brancher.staging.graph import record
from brancher.staging.plan import Plan, environment, make_plan, tensor_key
from brancher.staging.reasons import StagingError, no_compiler
from brancher.staging.structure import Node, Structure, compile_build, constants_of, flatten, tensors_of

Tensor = torch.Tensor
Mode = bool | Literal["auto"]
_MANY_PLANS = 8

_told_once: set[str] = set()


@dataclass(slots=True)
class Counters:
    """How often a staged function did what costs time.

    Attributes:
        traces: times its Python was recorded (one per cache key).
        compiles: graphs that a compiler built.
        loads: graphs that were found on disk instead.
        fallbacks: cache keys that could not be staged and run eagerly.
    """

    traces: int = 0
    compiles: int = 0
    loads: int = 0
    fallbacks: int = 0


def is_available() -> bool:
    """Whether this machine can compile: it has a C++ compiler, and torch the private names that are needed.

    Imports torch's compiler, which takes seconds; staging itself asks only when it has something to compile.

    Example:
        >>> isinstance(is_available(), bool)
        True
    """
    return native.compiler() is not None and not backend.self_test()


class Staged:
    """A compiled function; see `stage`."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        mode: Mode = True,
        on_fallback: Callable[[StagingError], None] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.function = function
        self.name: str = name or getattr(function, "__qualname__", "") or type(function).__name__
        self.mode: Mode = mode
        self.counters = Counters()
        self.error: StagingError | None = None
        #: Tensors outside its arguments that the function changes: buffers of modules, say.
        self.changed_tensors: list[Tensor] = []
        self._on_fallback, self._names = on_fallback, names
        self._plans: dict[Hashable, Plan] = {}
        self._pending: dict[Hashable, Future[Plan]] = {}
        self._failed: set[Hashable] = set()
        self._last: Plan | None = None
        self._lock = threading.RLock()
        self._told = False

    def __call__(self, *args: Any) -> Any:
        plan = self._last
        if plan is not None:
            tensors = plan.take(args)
            if tensors is not None:
                return plan.build(plan.run(tensors))
        return self._first_time(args)

    @property
    def captured_tensors(self) -> list[Tensor]:
        """Tensors that the function reads from outside its arguments, by reference, at every call."""
        found = {id(t): t for plan in self._plans.values() for t in plan.captured}
        return list(found.values())

    def plan(self, *args: Any) -> Plan:
        """Return the compiled specialisation for these arguments, making it if need be.

        Raises:
            StagingError: the function can not be staged for these arguments.
        """
        tensors, structure, key = self._look_at(args)
        with self._lock:
            plan = self._known(key, tensors)
            if plan is None:
                self._pending.pop(key, None)
                plan = self._adopt(key, self._make(args, tensors, structure))
            self._last = plan
            return plan

    def prepare_async(self, *args: Any) -> Future[Plan]:
        """Compile for these arguments in a thread; calls run eagerly until it is done.

        The function is recorded here and now; lowering and the C++ compiler run beside.
        """
        tensors, structure, key = self._look_at(args)
        with self._lock:
            known = self._known(key, tensors)
            if known is not None:
                done: Future[Plan] = Future()
                done.set_result(known)
                return done
            if key not in self._pending:
                self._pending[key] = self._start(args, tensors, structure)
            return self._pending[key]

    def ready(self, *args: Any) -> Plan | None:
        """Return a plan for these arguments, or None where a call of them would run eagerly."""
        plan = self._last
        if plan is not None and plan.take(args) is not None:
            return plan
        if self.mode is False:
            return None
        try:
            _, _, key = self._look_at(args)
            if key in self._failed:
                return None
            plan = self._background(key, args) if self.mode == "auto" else self.plan(*args)
        except StagingError:
            return None  # the call that follows reports it
        self._last = plan if plan is not None else self._last
        return plan

    def eager(self, *args: Any) -> Any:
        """Run the function itself; results are detached and share no memory with the arguments."""
        result = self.function(*args)
        outputs, structure = flatten(result, "result", any_layout=True)
        taken = {_memory(t) for t in [*tensors_of(args), *self.captured_tensors]}
        fresh = []
        for output in outputs:
            memory = _memory(output)
            fresh.append(output.detach().clone() if memory in taken else output.detach())
            taken.add(memory)
        return compile_build(structure, constants_of(result))(fresh)

    def _look_at(self, args: tuple[Any, ...]) -> tuple[list[Tensor], Structure, Hashable]:
        """The tensors of arguments, what is around them, and the cache key."""
        tensors: list[Tensor] = []
        parts: list[Structure] = []
        for name, part in zip(self._names or [f"argument[{i}]" for i in range(len(args))], args, strict=True):
            found, structure = flatten(part, f"staged function '{self.name}', {name}")
            tensors += found
            parts.append(structure)
        whole = Node(tuple, (), tuple(parts))
        return tensors, whole, (whole, tensor_key(tensors), environment())

    def _first_time(self, args: tuple[Any, ...]) -> Any:
        if self.mode is False:
            return self.eager(*args)
        try:
            tensors, _, key = self._look_at(args)
        except StagingError as error:
            return self._fall_back(args, None, error)
        if key in self._failed:
            return self.eager(*args)
        try:
            plan = self._background(key, args) if self.mode == "auto" else self.plan(*args)
        except StagingError as error:
            return self._fall_back(args, key, error)
        if plan is None:
            return self.eager(*args)
        self._last = plan
        taken = plan.take(args)
        return plan.build(plan.run(tensors if taken is None else taken))

    def _known(self, key: Hashable, tensors: list[Tensor]) -> Plan | None:
        plan = self._plans.get(key)
        # A captured tensor may have been resized or retyped since: then the plan is stale.
        return plan if plan is not None and plan.fits(tensors) else None

    def _background(self, key: Hashable, args: tuple[Any, ...]) -> Plan | None:
        plan = self._known(key, flatten(args)[0])
        if plan is not None:
            return plan
        if not backend.is_warm():
            return None
        future = self.prepare_async(*args)
        if not future.done():
            return None
        with self._lock:
            self._pending.pop(key, None)
            return self._adopt(key, future.result())

    def _start(self, args: tuple[Any, ...], tensors: list[Tensor], structure: Structure) -> Future[Plan]:
        future: Future[Plan] = Future()
        self._require()
        self.counters.traces += 1
        traced = record(self.function, args, self.name)
        settings = environment()

        def work() -> None:
            try:
                plan = make_plan(traced, structure, tensors, self.name)
                plan.environment = settings
                future.set_result(plan)
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, name=f"stage {self.name}", daemon=True).start()
        return future

    def _make(self, args: tuple[Any, ...], tensors: list[Tensor], structure: Structure) -> Plan:
        self._require()
        self.counters.traces += 1
        return make_plan(record(self.function, args, self.name), structure, tensors, self.name)

    def _require(self) -> None:
        if native.compiler() is None:  # before the trace, which costs seconds in a fresh process
            raise no_compiler(self.name)

    def _adopt(self, key: Hashable, plan: Plan) -> Plan:
        if plan.compiled.loaded:
            self.counters.loads += 1
        else:
            self.counters.compiles += 1
        self._plans[key] = plan
        self.changed_tensors = list({id(t): t for p in self._plans.values() for t in p.changed}.values())
        if len(self._plans) == _MANY_PLANS:
            warnings.warn(
                f"staged function '{self.name}': expected few argument shapes, got {_MANY_PLANS}, each "
                "compiled anew; pad to one shape, or pass changing numbers as tensors.",
                BrancherWarning,
                stacklevel=6,
            )
        return plan

    def _fall_back(self, args: tuple[Any, ...], key: Hashable | None, error: StagingError) -> Any:
        # The function first: where it is the function that fails, its own error is the news.
        result = self.eager(*args)
        self.error = error
        self.counters.fallbacks += 1
        if key is not None:
            self._failed.add(key)
        if not self._told:
            self._told = True
            self._tell(error)
        return result

    def _tell(self, error: StagingError) -> None:
        if self._on_fallback is not None:
            self._on_fallback(error)
            return
        if error.reason == "compiler":  # a fact of the machine, told once, not once a function
            reason = str(error).partition(": ")[2]
            if reason in _told_once:
                return
            _told_once.add(reason)
        warnings.warn(f"{error} Running it eagerly.", BrancherWarning, stacklevel=5)


def _memory(tensor: Tensor) -> int:
    """Equal for tensors that share memory; a sparse tensor has none of its own to share."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else -id(tensor)


def stage(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    mode: Mode = True,
    on_fallback: Callable[[StagingError], None] | None = None,
    names: Sequence[str] = (),
) -> Staged:
    """Compile a function of tensors; what it computes stays the same, with the same random numbers.

    The function runs once per cache key under a tracer that records its tensor operations (gradients taken
    inside included), and the record is compiled. The key holds the arguments' containers, the shapes,
    strides, dtypes, devices and ``requires_grad`` of their tensors, and the values of everything else in
    them, train or eval mode of modules among those; then grad mode, autocast, default dtype and device,
    deterministic mode and the number of threads.

    Tensors the function reads from elsewhere (closures, module parameters) are read again at every call.
    **Python values it reads from elsewhere (globals, closures, attributes) are burned in**, as is which
    tensor a name stood for: rebinding a name is not seen.

    Results are detached, and share memory neither with arguments nor with each other. Tensors that the
    function changes in place (batch-norm buffers) are changed.

    Args:
        function: positional arguments in; out, tensors and plain values in tuples, lists, dicts and named
            tuples.
        name: for messages; the function's own name by default.
        mode: True compiles at the first call, False never, ``"auto"`` in a thread while calls run eagerly.
        on_fallback: called once with the reason when the function can not be staged; else it is a warning.
        names: of the arguments, for messages; their numbers by default.

    Example:
        >>> square = stage(lambda x: x * x, mode=False)
        >>> square(torch.tensor(3.0))
        tensor(9.)
    """
    return Staged(function, name=name, mode=mode, on_fallback=on_fallback, names=names)
