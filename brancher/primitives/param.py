"""``param`` and ``module``: what is learned."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints

from brancher.errors import ParamTypeError
from brancher.handlers import stack
from brancher.handlers.message import Message
from brancher.params import current_store
from brancher.primitives.sample import refuse_name


def param(
    name: str,
    init_tensor: Any = None,
    constraint: constraints.Constraint = constraints.real,
    event_dim: int | None = None,
) -> torch.Tensor:
    """Read a learnable parameter from the current store, declaring it at first sight.

    Args:
        name: unique within the store.
        init_tensor: initial value inside the constraint, or a function that makes it; optional
            once the parameter is there.
        constraint: the set of allowed values.
        event_dim: how many rightmost dimensions are not batch dimensions; when given, a
            subsampled plate around cuts its dimension to the rows present.

    Returns:
        The constrained value, differentiable with respect to the store's tensor.

    Raises:
        UnknownParamError: there is neither a stored nor an initial value.
        ParamError: the initial value breaks the constraint, or an earlier declaration differs.

    Example:
        >>> param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
        tensor(2.0000, grad_fn=...)
    """
    if type(name) is not str or not name:
        refuse_name("param", name)
    message = Message("param", name, _read, (init_tensor, constraint), {"event_dim": event_dim})
    return stack.apply(message).value  # type: ignore[no-any-return]


def _read(message: Message) -> torch.Tensor:
    store, name = current_store(), message.name
    init, constraint = message.args
    if init is None:
        value = store[name]
    else:
        value = store.declare(name, init, constraint, message.kwargs["event_dim"])
    message.unconstrained = store.leaf(name)
    return value


def module(name: str, nn_module: torch.nn.Module, update_module_params: bool = False) -> Any:
    """Register the parameters of a torch module, so that they are trained with the model.

    The parameters stay the module's own; the store shows them as ``{name}.{parameter}``.

    Args:
        name: unique within the store.
        nn_module: the module.
        update_module_params: accepted for programs written for Pyro; the module always holds
            the trained values.

    Returns:
        The module; or, where handlers replaced parameters, a callable that runs it with those.

    Raises:
        ParamTypeError: what was given is no module.
    """
    if type(name) is not str or not name:
        refuse_name("module", name)
    if not isinstance(nn_module, torch.nn.Module):
        raise ParamTypeError(
            f"module '{name}': expected a torch.nn.Module, got {type(nn_module).__name__}; "
            "use param for tensors"
        )
    current_store().register_module(name, nn_module)
    return show_module(name, nn_module)


def show_module(name: str, nn_module: torch.nn.Module) -> Any:
    """Show a module's parameters to the handlers as param sites ``{name}.{parameter}``.

    Returns:
        The module; or, where handlers replaced parameters, a callable that runs it with those.
    """
    replaced: dict[str, Any] = {}
    for key, parameter in nn_module.named_parameters():
        if not parameter.requires_grad:
            continue
        message = Message("param", f"{name}.{key}", _answer, (parameter,), {"event_dim": None})
        value = stack.apply(message).value
        if value is not parameter:
            replaced[key] = value
    return _Replaced(nn_module, replaced) if replaced else nn_module


def _answer(message: Message) -> torch.Tensor:
    parameter: torch.Tensor = message.args[0]
    message.unconstrained = parameter
    return parameter


class _Replaced:
    """A module run with some of its parameters replaced."""

    def __init__(self, nn_module: torch.nn.Module, values: dict[str, torch.Tensor]) -> None:
        self.module, self.values = nn_module, values

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(self.module, self.values, args, kwargs)
