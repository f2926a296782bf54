"""Questions about the sites of a trace, under Pyro's names."""

from __future__ import annotations

from brancher.handlers import Message, Trace
from brancher.handlers.queue import extend_by_support as enum_extend

__all__ = [
    "all_escape",
    "discrete_escape",
    "enum_extend",
    "prune_subsample_sites",
    "site_is_factor",
    "site_is_subsample",
]


def site_is_subsample(site: Message) -> bool:
    """Whether a site holds the rows of a subsampled plate."""
    return site.type == "plate"


def site_is_factor(site: Message) -> bool:
    """Whether a site is a term of the density of its own."""
    return site.type == "factor"


def prune_subsample_sites(trace: Trace) -> Trace:
    """A copy of a trace without the rows of its plates."""
    pruned = trace.copy()
    for site in list(pruned.sites("plate")):
        pruned.remove_node(site.name)
    return pruned


def discrete_escape(trace: Trace, msg: Message) -> bool:
    """Whether a site is discrete, latent and not in a trace: an ``escape_fn`` once the trace is filled in."""
    return all_escape(trace, msg) and bool(getattr(msg.fn, "has_enumerate_support", False))


def all_escape(trace: Trace, msg: Message) -> bool:
    """Whether a site is latent and not in a trace: an ``escape_fn`` once the trace is filled in."""
    return msg.type == "sample" and not msg.is_observed and msg.name not in trace
