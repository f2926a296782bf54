"""``export``: a posterior predictive or a log-density as a program that needs torch alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from brancher.distributions.validation import validation_enabled
from brancher.errors import InferenceTypeError
from brancher.infer.predictive import Predictive
from brancher.staging import export as export_graph


def export(what: Predictive | Callable[..., Any], path: str | os.PathLike[str], *args: Any) -> Path:
    """Write a program for ``torch.export.load``, which runs it without this library.

    The program takes the tensors of ``args`` in order and gives what the call gives, a dict of tensors by
    site for a :class:`Predictive`. Posterior samples, parameters, data from elsewhere and Python values are
    part of it; draws are made anew at every call. Results carry no gradient: a function that
    is to give one takes it inside, with ``torch.autograd.grad``.

    Args:
        what: a :class:`Predictive`, or a function of tensors, such as one that calls :func:`log_density`.
        path: the file, by custom ``.pt2``.
        *args: example arguments, whose shapes and dtypes the program keeps.

    Returns:
        The path written.

    Raises:
        InferenceTypeError: ``what`` is no function, or ``path`` no path.
        StagingError: it depends on the value of a tensor in Python, or its draws can not run together.

    Example:
        >>> import tempfile
        >>> model = lambda x: sample("y", dist.Normal(x * sample("w", dist.Normal(0.0, 1.0)), 1.0))
        >>> predictive = Predictive(model, {"w": torch.ones(100)})
        >>> path = export(predictive, tempfile.mkdtemp() + "/predictive.pt2", torch.tensor(3.0))
        >>> torch.export.load(path).module()(torch.tensor(3.0))["y"].shape
        torch.Size([100])
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InferenceTypeError(
            f"export: expected a path as the second argument, got {type(path).__name__}; write export(what, "
            "'program.pt2', *args)"
        )
    if not callable(what):
        raise InferenceTypeError(
            f"export: expected a Predictive or a function, got {type(what).__name__}; write "
            "export(predictive, path, *args)"
        )
    function = what.as_function(args) if isinstance(what, Predictive) else what

    def unchecked(*tensors: Any) -> Any:
        with validation_enabled(False), torch.enable_grad():
            return function(*tensors)

    unchecked.__qualname__ = getattr(function, "__qualname__", type(function).__name__)
    return export_graph(unchecked, args, path)
