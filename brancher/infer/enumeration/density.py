"""The log-density of a model's continuous sites, with its discrete ones summed out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from brancher.errors import UnsupportedError
from brancher.handlers import Frame, Message, Trace, enum
from brancher.infer.enumeration.config import config_enumerate
from brancher.infer.enumeration.elimination import sum_out
from brancher.infer.enumeration.sites import homes_of, terms_of


def discrete_sites(record: Trace, algorithm: str) -> list[str]:
    """Names of the latent sites that are to be summed out.

    Raises:
        UnsupportedError: one of them has no finite support.
    """
    found = []
    for site in record.sites("sample"):
        if site.is_observed or not site.fn.support.is_discrete:
            continue
        if not getattr(site.fn, "has_enumerate_support", False):
            raise UnsupportedError(
                f"{algorithm} site '{site.name}': expected a continuous law or one with a finite support, "
                f"which is summed out, got {type(site.fn).__name__}; use a finite law, sum the site out of "
                "the model, or observe it"
            )
        found.append(site.name)
    return found


def summing(model: Callable[..., Any], nesting: int) -> Callable[..., Any]:
    """The model with all values of its discrete sites at once, left of ``nesting`` batch dimensions."""
    return enum(config_enumerate(model), first_available_dim=-1 - nesting, also_sequential=True)


def summed_log_probs(record: Trace, nesting: int) -> list[torch.Tensor]:
    """Log-densities whose sum is that of everything but the enumerated sites of a trace.

    Returns:
        Tensors with ``nesting`` batch dimensions, the plates at theirs.
    """
    homes = homes_of(record)
    left = sum_out(list(terms_of(record.scored()).values()), homes, frozenset(homes))
    dims = range(-nesting, 0)
    found = []
    for factor in (term.scaled() for term in left):
        plates = {label.dim: label for label in factor.labels if isinstance(label, Frame)}
        found.append(factor.aligned([plates.get(dim, f"no plate at {dim}") for dim in dims]))
    return found


def refuse_dependent(site: Message, value: torch.Tensor, nesting: int, algorithm: str) -> None:
    """Refuse a continuous site whose support, and so its value, varies with a summed-out one.

    Raises:
        UnsupportedError: naming the site.
    """
    if value.dim() - len(site.fn.event_shape) > nesting:
        raise UnsupportedError(
            f"{algorithm} site '{site.name}': expected a support that is the same for all values of the "
            "discrete sites, got one that varies with them; sum the discrete site out of the model"
        )


def refuse_alone(names: Sequence[str], algorithm: str) -> None:
    """Refuse a model that has nothing but sites to sum out.

    Raises:
        UnsupportedError: naming them.
    """
    raise UnsupportedError(
        f"{algorithm}: expected a continuous latent site, got {list(names)} alone, which are summed out; use "
        "infer_discrete for draws of them"
    )
