"""An optimizer's parameters and state laid out as a few flat tensors, for the compiled step.

Many small leaves become views of one buffer, so that a step moves a handful of tensors however
many sites a model has. The leaves stay what they were to everybody else: same objects, same
values. The compiled step writes into the buffers, and so into the leaves. A large leaf has a buffer
to itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import torch

from brancher.errors import OptimError
from brancher.optim.clipping import clipped
from brancher.optim.optimizer import Optimizer
from brancher.optim.rates import Schedule
from brancher.optim.rules import RULES, Rule, State
from brancher.optim.sources import options_for
from brancher.staging.backend import Guard

Tensor = torch.Tensor

#: Leaves with more entries than this are not gathered.
LARGE = 16_384

_NOT_OPTIONS = ("params", "lr", "initial_lr", "foreach", "fused", "capturable", "differentiable")


_address = Tensor.data_ptr
_hooks_of = attrgetter("_backward_hooks")


def _nothing(_group: dict[str, Any]) -> tuple[()]:
    return ()


class Buffers(NamedTuple):
    """Flat values of one block: parameters, and the optimizer's state (``step`` one entry a leaf)."""

    params: Tensor
    state: State


class Block:
    """Leaves of one parameter group, dtype and device, end to end in one buffer.

    Args:
        leaves: by name.
        optimizer: the torch optimizer that holds their state.
        group: its parameter group.
        limits: ``clip_args`` of each leaf.
    """

    def __init__(
        self,
        leaves: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        group: dict[str, Any],
        limits: Sequence[Mapping[str, float]],
    ) -> None:
        self.names, self.leaves, self.group, self._limits = list(leaves), list(leaves.values()), group, limits
        self._rule: Rule = RULES[type(optimizer)]
        self._options = {key: value for key, value in group.items() if key not in _NOT_OPTIONS}
        self._states = [optimizer.state[leaf] for leaf in self.leaves]
        self._sizes = [leaf.numel() for leaf in self.leaves]
        self._shapes = [leaf.shape for leaf in self.leaves]
        self._gather()
        self._owner: Tensor | None = self._owners()
        #: What the step depends on beside tensors; it must be a part of the cache key.
        self.options: Hashable = (
            self._owner is None,
            *sorted((key, repr(value)) for key, value in self._options.items()),
        )
        names = [key for key in group if key not in _NOT_OPTIONS]
        self._read_options = itemgetter(*names) if names else _nothing
        self._options_now = self._read_options(group)
        self._filled = [leaf for leaf in self.leaves if leaf.numel()]
        self._places = self._where()

    def _gather(self) -> None:
        params = join([leaf.detach() for leaf in self.leaves])
        state: State = {}
        for key, first in self._states[0].items():
            if isinstance(first, Tensor):
                parts = [entry[key] for entry in self._states]
                # Torch counts steps on the CPU; a graph that needs no other device is the faster one.
                state[key] = torch.stack(parts).to(params.device) if key == "step" else join(parts)
        # Leaves and state get new memory below: nothing of the user's may be moved in place.
        self.buffers = Buffers(params.clone(), {key: flat.clone() for key, flat in state.items()})
        for leaf, view in zip(self.leaves, self.split(self.buffers.params), strict=True):
            leaf.data = view
        self._share_state()

    def _owners(self) -> Tensor | None:
        """For steps that differ between leaves: the leaf that each entry of the buffer belongs to."""
        steps = self.buffers.state.get("step")
        if steps is None or bool((steps == steps[0]).all()):
            return None
        device = self.buffers.params.device
        return torch.repeat_interleave(torch.tensor(self._sizes, device=device))

    def _share_state(self) -> None:
        for key, flat in self.buffers.state.items():
            views = flat.unbind() if key == "step" else self.split(flat)
            for entry, view in zip(self._states, views, strict=True):
                entry[key] = view

    def split(self, flat: Tensor) -> list[Tensor]:
        """The leaves' shares of a flat tensor, in their shapes."""
        parts = flat.split(self._sizes) if len(self._sizes) > 1 else (flat,)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def is_current(self) -> bool:
        """Whether leaves and state still lie in the buffers: nobody has given one other memory."""
        try:
            return self._where() == self._places and self._read_options(self.group) == self._options_now
        except KeyError:
            return False

    def _where(self) -> list[int]:
        """Addresses of all leaves, and of the first one's state."""
        first = self._states[0]
        return [*map(_address, self._filled), *[first[key].data_ptr() for key in self.buffers.state]]

    def update(
        self, buffers: Buffers, grads: Sequence[Tensor | None], rate: Tensor
    ) -> tuple[Buffers, Tensor]:
        """One optimizer step as a function of tensors.

        Returns:
            The new buffers, and the largest absolute entry of the gradient, shape ``()``.
        """
        params, steps = buffers.params, buffers.state.get("step")
        parts = [
            torch.zeros(shape, dtype=params.dtype, device=params.device) if grad is None else grad
            for grad, shape in zip(grads, self._shapes, strict=True)
        ]
        largest = join(parts).abs().amax()
        state = dict(buffers.state)
        if steps is not None:
            state["step"] = steps[0] if self._owner is None else steps[self._owner]
        cut = [
            clipped(grad, limits.get("clip_norm"), limits.get("clip_value"))
            for grad, limits in zip(parts, self._limits, strict=True)
        ]
        params, state = self._rule(params, join(cut), state, rate, self._options)
        if steps is not None:
            state = {**state, "step": steps + 1}
        return Buffers(params, {key: state[key] for key in buffers.state}), largest

    def tensors(self) -> list[Tensor]:
        """All buffers."""
        return [self.buffers.params, *self.buffers.state.values()]


class FlatOptimizer:
    """The blocks of an optimizer that has taken at least one step.

    Args:
        optimizer: a bound optimizer of one of the classes in ``rules.RULES``.
        names: the leaves that its steps move: those with a gradient.

    Raises:
        OptimError: there is no rule for its class.
    """

    def __init__(self, optimizer: Optimizer, names: Set[str]) -> None:
        inner = optimizer.torch_optimizer
        if type(inner) not in RULES or inner is None:
            known = sorted(kind.__name__ for kind in RULES)
            raise OptimError(
                f"optimizer '{optimizer.name}': expected one of {known} for a compiled step, got "
                f"{type(inner).__name__}; choose one of those, or run with compile=False"
            )
        self.optimizer, self.names, self._inner = optimizer, names, inner
        self._bound, self._groups, self._state = optimizer.names, inner.param_groups, inner.state
        self._leaves = list(optimizer.named_leaves().values())
        self.blocks = [
            Block(leaves, inner, group, self._limits(leaves)) for leaves, group in self._portions(inner)
        ]

        self._are_alike = Guard(self._leaves).check
        self.buffers = tuple([block.buffers for block in self.blocks])
        self.devices = [block.buffers.params.device for block in self.blocks]
        self.schedule = Schedule(optimizer, [block.group for block in self.blocks], self.devices)

    def _portions(self, inner: torch.optim.Optimizer) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
        names = {id(leaf): name for name, leaf in self.optimizer.named_leaves().items()}
        found: list[tuple[dict[str, Tensor], dict[str, Any]]] = []
        for group in inner.param_groups:
            gathered: dict[Hashable, dict[str, Tensor]] = {}
            for leaf in group["params"]:
                if names[id(leaf)] not in self.names:
                    continue  # without a gradient torch leaves it, and what it knows of it, alone
                own = names[id(leaf)] if leaf.numel() > LARGE else None
                gathered.setdefault((leaf.dtype, leaf.device, own), {})[names[id(leaf)]] = leaf
            found += [(leaves, group) for leaves in gathered.values()]
        return found

    def _limits(self, leaves: Mapping[str, Tensor]) -> list[Mapping[str, float]]:
        clip_args = self.optimizer.clip_args
        return [{} if clip_args is None else options_for(clip_args, name, "clip_args") for name in leaves]

    def trains_alike(self) -> bool:
        """Whether the same leaves of the optimizer as before take part in training, with dtypes as before."""
        return self._are_alike(*self._leaves)

    def has_hooks(self) -> bool:
        """Whether somebody wants to see gradients or steps, which happen inside the graph."""
        inner: Any = self._inner
        if inner._optimizer_step_pre_hooks or inner._optimizer_step_post_hooks:
            return True
        return any(map(_hooks_of, self._leaves))

    def is_current(self) -> bool:
        """Whether the blocks still hold what the optimizer holds."""
        optimizer = self.optimizer
        if optimizer.torch_optimizer is not self._inner or optimizer.names != self._bound:
            return False
        if self._inner.param_groups is not self._groups or self._inner.state is not self._state:
            return False  # it has loaded another state
        if not self.schedule.is_current():
            return False
        return all(map(Block.is_current, self.blocks))

    def tensors(self) -> list[Tensor]:
        """All buffers of all blocks."""
        return [tensor for block in self.blocks for tensor in block.tensors()]


def lacks_state(optimizer: Optimizer, names: Set[str]) -> bool:
    """Whether an optimizer lacks one of these leaves, or what a first step leaves behind for its rule."""
    inner, leaves = optimizer.torch_optimizer, optimizer.named_leaves()
    if inner is None or not names <= leaves.keys():
        return True
    if type(inner) not in RULES:
        return False
    wanted = {id(leaves[name]) for name in names}
    for group in inner.param_groups:
        keeps_none = isinstance(inner, torch.optim.SGD) and not group["momentum"]
        mine = [leaf for leaf in group["params"] if id(leaf) in wanted]
        if not keeps_none and not all(inner.state.get(leaf) for leaf in mine):
            return True
    return False


def join(parts: Sequence[Tensor]) -> Tensor:
    """Tensors end to end in one vector."""
    return parts[0].reshape(-1) if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts])
