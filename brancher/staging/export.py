"""A staged function as a ``torch.export`` program, which loads and runs without this package."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from brancher.staging.graph import record
from brancher.staging.reasons import StagingError
from brancher.staging.structure import Leaf, Node, Structure, flatten


class _Program(torch.nn.Module):
    """A recorded graph with its captured tensors as buffers."""

    def __init__(
        self, graph: torch.fx.GraphModule, captured: list[torch.Tensor], names: list[str] | None
    ) -> None:
        super().__init__()
        self.graph_module = graph
        self.names = names
        self.count = len(captured)
        for position, tensor in enumerate(captured):
            self.register_buffer(f"captured_{position}", tensor.detach().clone())

    def forward(self, *tensors: torch.Tensor) -> Any:
        captured = [getattr(self, f"captured_{i}") for i in range(self.count)]
        results = self.graph_module(*tensors, *captured)
        return tuple(results) if self.names is None else dict(zip(self.names, results, strict=True))


def export(function: Callable[..., Any], args: tuple[Any, ...], path: str | os.PathLike[str]) -> Path:
    """Write a function of tensors as a program for ``torch.export.load``.

    The program takes the tensors of ``args`` in order, flat. It gives a dict of tensors where the function
    does, else the tensors of the result, flat.
    Values of non-tensors, and the tensors read from elsewhere, are part of it. It needs torch alone.

    Args:
        function: as for `stage`.
        args: example arguments, which fix shapes and dtypes.
        path: the file, by custom ``.pt2``.

    Returns:
        The path written.

    Raises:
        StagingError: the function does not trace, or gives no tensor.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    traced = record(function, args, name)
    if not traced.samples:
        raise StagingError(
            f"export: expected a function that gives tensors, got none from '{name}'; return what it "
            "computes as a tensor.",
            reason="arguments",
        )
    tensors = tuple(tensor.detach() for tensor in flatten(args)[0])
    program = torch.export.export(_Program(traced.graph, traced.captured, _names(traced.structure)), tensors)
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.pt2")
    torch.export.save(program, part)
    part.replace(target)
    return target


def _names(structure: Structure) -> list[str] | None:
    """The names of a dict of tensors; None for every other structure."""
    if not (isinstance(structure, Node) and structure.kind is dict):
        return None
    is_plain = all(isinstance(child, Leaf) for child in structure.children)
    return list(map(str, structure.keys)) if is_plain else None
