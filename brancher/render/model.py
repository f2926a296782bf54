"""``render_model``: from a model to its plate diagram."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from brancher.errors import HandlerTypeError
from brancher.handlers import Frame, Message, Trace, trace
from brancher.handlers.provenance import Ledger, Provenance
from brancher.handlers.record import family
from brancher.render.graph import ModelGraph, Node
from brancher.staging import random_state_kept


def render_model(
    model: Callable[..., Any],
    model_args: Sequence[Any] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    filename: str | Path | None = None,
    render_distributions: bool = False,
    render_params: bool = False,
    render_deterministic: bool = True,
) -> ModelGraph:
    """Draw a model as a plate diagram.

    The model runs once. An edge says that one site's value reaches the other site's distribution;
    observed sites are filled, deterministic ones dashed, plates are boxes with their sizes.

    Args:
        model: the model, or a guide.
        model_args: its arguments.
        model_kwargs: its keyword arguments.
        filename: where to save the diagram, see :meth:`ModelGraph.save`.
        render_distributions: whether to name the distributions.
        render_params: whether to show parameters.
        render_deterministic: whether to show deterministic sites, or the edges through them.

    Returns:
        The graph, with its text as ``.dot`` and ``.mermaid``.

    Raises:
        HandlerTypeError: ``model`` is no function.

    Example:
        >>> from brancher.render import render_model
        >>> def model():
        ...     mu = sample("mu", dist.Normal(0.0, 1.0))
        ...     with plate("row", 3):
        ...         sample("y", dist.Normal(mu, 1.0), obs=torch.zeros(3))
        >>> render_model(model).edges
        (('mu', 'y'),)
    """
    if not callable(model):
        raise HandlerTypeError(f"render: expected a model as a function, got {type(model).__name__}")
    types = ["sample", "factor"]
    types += ["param"] if render_params else []
    types += ["deterministic"] if render_deterministic else []
    record, parents = _run(model, tuple(model_args), dict(model_kwargs or {}), types)
    sites = list(record.sites(*types))
    frames = {frame.name: frame for site in sites for frame in site.frames if not frame.name.startswith("_")}
    nodes = {site.name: _node(site, frames) for site in sites}
    order = {name: i for i, name in enumerate(nodes)}
    edges = tuple(
        (parent, child)
        for child in nodes
        for parent in sorted(parents.get(child, ()), key=lambda name: order.get(name, -1))
        if parent in nodes and parent != child
    )
    plates = {name: _plate_label(frame) for name, frame in frames.items()}
    graph = ModelGraph(nodes, edges, plates, render_distributions)
    if filename is not None:
        graph.save(filename)
    return graph


def _run(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], types: Sequence[str]
) -> tuple[Trace, dict[str, frozenset[str]]]:
    with random_state_kept(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Ledger() as ledger, Provenance(ledger, types) as provenance:
            record = trace(model).get_trace(*args, **kwargs)
    return record, provenance.parents


def _node(site: Message, plates: Mapping[str, Frame]) -> Node:
    kind = site.type
    if kind == "sample":
        kind = "observed" if site.is_observed else "latent"
    shown = family(site.fn) if kind in ("latent", "observed") else ""
    return Node(site.name, kind, shown, tuple(frame.name for frame in site.frames if frame.name in plates))


def _plate_label(frame: Frame) -> str:
    size = str(frame.full_size) if frame.size == frame.full_size else f"{frame.size} of {frame.full_size}"
    return f"{frame.name} × {size}"
