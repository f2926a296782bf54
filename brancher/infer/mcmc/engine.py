"""Running a kernel for many iterations: in compiled C++ where that is possible, else tensor by tensor.

Both engines move the same state through the same decisions, so a run that one began the other can finish.
"""

from __future__ import annotations

import ctypes
import subprocess
import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from brancher.errors import BrancherWarning
from brancher.infer.mcmc import native
from brancher.infer.mcmc.hmc import HMCKernel
from brancher.infer.mcmc.integrator import Density, Gradient, Metric, value_and_grad
from brancher.infer.mcmc.nuts import NUTSKernel
from brancher.infer.mcmc.state import Control, Info, Kernel
from brancher.staging import Staged, StagingError, driver, stage

Compile = bool | Literal["auto"]
STATS = Info._fields[1:]
_NAMES: dict[type, str] = {NUTSKernel: "Nuts", HMCKernel: "Hmc"}


class Buffers(NamedTuple):
    """Where finished draws go: ``(C, rows, D)``; ``(C, rows, 7)``, as ``STATS``; perhaps gradients."""

    draws: Tensor
    stats: Tensor
    grads: Tensor | None

    @classmethod
    def empty(cls, chains: int, rows: int, like: Tensor, with_grads: bool) -> Buffers:
        """Make room for ``rows`` draws of every chain."""
        draws = like.new_zeros(chains, rows, like.shape[-1])
        stats = like.new_zeros(chains, rows, len(STATS))
        return cls(draws, stats, torch.zeros_like(draws) if with_grads else None)


class Orders(NamedTuple):
    """What one call is to do: rest at ``limit`` draws; ``base`` were done before the buffers began."""

    limit: int
    base: int
    adapting: bool
    schedule: Tensor | None = None


class Engine(Protocol):
    """Moves a state on."""

    gradient: Gradient

    def run(
        self, state: Any, metric: Metric, orders: Orders, buffers: Buffers, budget: int
    ) -> tuple[Any, int]:
        """Do up to ``budget`` iterations; returns the state and how many were done."""


class TensorEngine:
    """Runs the kernel's own ``step``, on any device."""

    def __init__(self, kernel: Kernel, gradient: Gradient) -> None:
        self.kernel = kernel
        self.gradient = gradient

    def run(
        self, state: Any, metric: Metric, orders: Orders, buffers: Buffers, budget: int
    ) -> tuple[Any, int]:
        """Do up to ``budget`` iterations; returns the state and how many were done."""
        like = state.chain.drawn
        control = Control(
            torch.full_like(like[0], orders.limit),
            torch.full_like(like[0], int(orders.adapting)) > 0,
            torch.full_like(like[0], orders.base),
            orders.schedule,
        )
        with torch.no_grad():
            for iteration in range(budget):
                if bool((state.chain.drawn >= orders.limit).all()):
                    return state, iteration
                after, info = self.kernel.step(state, metric, self.gradient, control)
                self._record(state, after, info, orders, buffers)
                state = after
        return state, budget

    def _record(self, before: Any, after: Any, info: Info, orders: Orders, buffers: Buffers) -> None:
        chains = info.done.nonzero()[:, 0]
        rows = before.chain.drawn[chains] - orders.base
        buffers.draws[chains, rows] = after.chain.position[chains]
        buffers.stats[chains, rows] = torch.stack(info[1:], dim=-1)[chains].to(buffers.stats.dtype)
        if buffers.grads is not None:
            buffers.grads[chains, rows] = after.chain.grad[chains]


class NativeEngine:
    """Runs the kernel's twin in C++; the state's tensors change in place."""

    def __init__(self, kernel: Any, staged: Staged, position: Tensor) -> None:
        self.kernel = kernel
        self.gradient: Gradient = staged
        self._library = native.load(_NAMES[type(kernel)], position.dtype)
        self._plan = staged.plan(position)
        tensors = [position, *self._plan.captured]
        self._entry = driver.entry_point(self._plan, tensors)
        if self._entry is None:
            raise StagingError("density: the compiled form can not be called from C++", reason="device")

    def run(
        self, state: Any, metric: Metric, orders: Orders, buffers: Buffers, budget: int
    ) -> tuple[Any, int]:
        """Do up to ``budget`` iterations; returns the state and how many were done."""
        fields: list[Tensor] = pytree.tree_leaves(state)
        inputs = [state.near.position, *self._plan.captured]
        described = driver.describe(inputs)
        kept = [t.contiguous() for t in metric]
        job = native.Job(
            entry=self._entry,
            inputs=described,
            input_count=len(inputs),
            fields=native.pointers(fields),
            inverse=kept[0].data_ptr(),
            root=kept[1].data_ptr(),
            schedule=None if orders.schedule is None else orders.schedule.data_ptr(),
            trajectory=getattr(self.kernel, "trajectory_length", 0.0),
            draws=buffers.draws.data_ptr(),
            grads=None if buffers.grads is None else buffers.grads.data_ptr(),
            stats=buffers.stats.data_ptr(),
            target=self.kernel.target_accept,
            chains=buffers.draws.shape[0],
            dim=buffers.draws.shape[2],
            max_depth=getattr(self.kernel, "max_tree_depth", 0),
            dense=int(metric.inverse.dim() == 3),
            adapting=int(orders.adapting),
            limit=orders.limit,
            budget=budget,
            rows=buffers.draws.shape[1],
            base=orders.base,
        )
        done = self._library.brancher_run(ctypes.byref(job))
        if done < 0:
            raise RuntimeError(
                "the compiled density failed inside the sampler's loop; run with compile=False to see where"
            )
        return state, int(done)


def make_engine(kernel: Any, log_prob: Density, position: Tensor, compile: Compile = "auto") -> Engine:
    """Choose the fastest engine that can run a kernel on a density.

    Args:
        kernel: the transition.
        log_prob: log density of ``(C, D)`` positions, chains apart.
        position: an example of the positions.
        compile: False runs eagerly; ``"auto"`` falls back to that with one warning, True raises instead.

    Raises:
        StagingError: ``compile=True`` and the density can not be compiled.
    """
    gradient = value_and_grad(log_prob)
    if compile is False:
        return TensorEngine(kernel, gradient)
    staged = stage(gradient, name="density")
    try:
        return _compiled(kernel, staged, position.detach().contiguous())
    except (StagingError, subprocess.CalledProcessError, RuntimeError) as error:
        if compile is True:
            raise
        warnings.warn(f"{error} Sampling eagerly.", BrancherWarning, stacklevel=2)
        return TensorEngine(kernel, gradient)


def make_gradient(log_prob: Density, position: Tensor, compile: Compile = "auto") -> Gradient:
    """The gradient alone, compiled as `make_engine` would."""
    gradient = value_and_grad(log_prob)
    if compile is False:
        return gradient
    staged = stage(gradient, name="density")
    try:
        staged.plan(position)
    except StagingError as error:
        if compile is True:
            raise
        warnings.warn(f"{error} Running eagerly.", BrancherWarning, stacklevel=3)
        return gradient
    return staged


def plain_density(kernel: Any, log_prob: Density, position: Tensor, compile: Compile = "auto") -> Engine:
    """As `make_engine`, for kernels that need no gradient: it is zero, and never taken."""

    def evaluate(position: Tensor) -> tuple[Tensor, Tensor]:
        return log_prob(position), torch.zeros_like(position)

    if compile is False:
        return TensorEngine(kernel, evaluate)
    staged = stage(evaluate, name="density", mode=True)
    try:
        staged.plan(position)
    except StagingError as error:
        if compile is True:
            raise
        warnings.warn(f"{error} Sampling eagerly.", BrancherWarning, stacklevel=2)
        return TensorEngine(kernel, evaluate)
    return TensorEngine(kernel, staged)


def _compiled(kernel: Any, staged: Staged, position: Tensor) -> Engine:
    native_kernel = type(kernel) in _NAMES and position.dtype in native.SCALARS
    if not native_kernel or position.device.type != "cpu":
        staged.plan(position)
        return TensorEngine(kernel, staged)
    # The driver is built beside the density: two compilers at once, and g++ is the slow part of both.
    beside = threading.Thread(target=_quietly(native.load), args=(_NAMES[type(kernel)], position.dtype))
    beside.start()
    try:
        staged.plan(position)
    finally:
        beside.join()
    return NativeEngine(kernel, staged, position)


def _quietly(function: Callable[..., Any]) -> Callable[..., None]:
    def call(*args: Any) -> None:
        try:
            function(*args)
        except Exception:  # told where the result is needed
            return

    return call
