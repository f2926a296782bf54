"""The sites of a trace as log-factors with named dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from brancher.distributions.shapes import broadcast_shapes
from brancher.errors import InferenceError
from brancher.handlers import Frame, Message, Trace
from brancher.handlers.density import mask_of as counted_rows
from brancher.handlers.density import score
from brancher.handlers.enum import value_dims
from brancher.infer.enumeration.elimination import Plates, Term
from brancher.infer.enumeration.factors import Factor, Label


def terms_of(sites: Iterable[Message]) -> dict[str, Term]:
    """The log-densities of sites as probabilities over their own values, by name."""
    return {site.name: probability_of(site) for site in sites}


def term_of(site: Message) -> Term:
    """The log-density of one site, with all rows of its plates."""
    score(site)
    density: torch.Tensor = site.unscaled_log_prob  # type: ignore[assignment]
    return Term(named(site, density), frozenset(site.frames), own_scale(site))


def probability_of(site: Message) -> Term:
    """The log-density of one site as a probability over its own values.

    A masked row of an enumerated site counts for nothing: its values are equally likely, so that their
    sum is one.
    """
    term = term_of(site)
    if not is_enumerated(site) or (mask := mask_of(site)) is None:
        return term
    factor = term.factor
    size = factor.tensor.shape[factor.labels.index(site.name)]
    batch = broadcast_shapes(site.unscaled_log_prob.shape, mask.shape)  # type: ignore[union-attr]
    shown = named(site, mask.to(factor.tensor.device).expand(batch))
    return term._replace(
        factor=Factor(
            torch.where(shown.aligned(factor.labels), factor.tensor, -math.log(size)), factor.labels
        )
    )


def mask_of(site: Message) -> torch.Tensor | None:
    """Where a site counts, over its batch dimensions; None for everywhere."""
    mask = counted_rows(site)
    return None if mask is None or mask is True else torch.as_tensor(mask)


def named(site: Message, density: torch.Tensor) -> Factor:
    """A tensor over the batch dimensions of a site, with their names."""
    at: dict[int, Label] = dict(site.enumerated or {})
    at |= {frame.dim: frame for frame in site.frames if frame.dim is not None}
    rank = max([density.dim(), *(-frame.dim for frame in site.frames if frame.dim is not None)])
    sizes = [1] * (rank - density.dim()) + list(density.shape)
    for frame in site.frames:
        if frame.dim is not None:
            sizes[frame.dim] = frame.size
    full = density.expand(sizes)
    kept = [dim for dim in range(-rank, 0) if isinstance(at.get(dim), Frame) or sizes[dim] != 1]
    if unknown := [dim for dim in kept if dim not in at]:
        raise InferenceError(
            f"site '{site.name}': expected dimensions of plates or of enumerated sites in reach, got size "
            f"{sizes[unknown[0]]} at dim {unknown[0]}; put the site into a plate, or give markov a larger "
            "history or keep=True"
        )
    return Factor(full.reshape([sizes[dim] for dim in kept]), tuple(at[dim] for dim in kept))


def homes_of(*traces: Trace) -> dict[str, Plates]:
    """The plates that each enumerated variable of some traces stands under."""
    return {
        site.name: frozenset(site.frames)
        for record in traces
        for site in record.sites("sample")
        if is_enumerated(site)
    }


def is_enumerated(site: Message) -> bool:
    """Whether a site has all its values at once."""
    return not site.is_observed and site.name in value_dims(site).values()


def own_scale(site: Message) -> Any:
    """What handlers other than subsampled plates scale a site by."""
    scale = site.scale
    for frame in site.frames:
        if frame.size != frame.full_size and frame.size:
            scale = scale * (frame.size / frame.full_size)
    is_rounding = isinstance(scale, float) and abs(scale - 1.0) < 1e-9
    return 1.0 if is_rounding else scale
