"""Older primitives of Pyro: modules whose parameters are drawn, and plates under their first names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from brancher.errors import ParamError, nearest
from brancher.handlers import lift
from brancher.primitives import module, plate

__all__ = ["iarange", "irange", "random_module"]

#: Plates as contexts, and as loops.
iarange = irange = plate


def random_module(name: str, nn_module: nn.Module, prior: Any) -> Callable[[], Any]:
    """Make a function that draws a module's parameters and gives a callable that runs it with them.

    Sites are called ``{name}.{parameter}``. A :class:`~brancher.nn.PyroModule` does the same and is less
    to write.

    Args:
        name: of the module.
        nn_module: the module, which is left as it is.
        prior: by parameter, such as ``"weight"``, its distribution; others stay parameters. Or a function
            from a parameter's name to its distribution or None.

    Raises:
        ParamError: a name is none of the module's parameters.

    Example:
        >>> from brancher import random_module
        >>> prior = {"weight": dist.Normal(torch.zeros(1, 2), 1.0).to_event(2)}
        >>> draw = random_module("net", torch.nn.Linear(2, 1), prior)
        >>> trace = handlers.trace(lambda: draw()(torch.ones(5, 2))).get_trace()
        >>> trace.stochastic_nodes, trace.param_nodes, trace["_RETURN"].value.shape
        (['net.weight'], ['net.bias'], torch.Size([5, 1]))
    """
    known = [key for key, _ in nn_module.named_parameters()]
    if isinstance(prior, Mapping):
        unknown = [key for key in prior if key not in known]
        if unknown:
            raise ParamError(
                f"random_module '{name}': expected names of parameters, got {unknown}"
                f"{nearest(str(unknown[0]), known)}"
            )

    def prior_of(full_name: str) -> Any:
        key = full_name.removeprefix(f"{name}.")
        if isinstance(prior, Mapping):
            return prior.get(key)
        return prior(key)

    def draw() -> Any:
        return lift(module, prior=prior_of)(name, nn_module)

    return draw
