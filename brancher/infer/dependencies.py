"""``get_dependencies``: which sites depend on which, before data and after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from brancher.distributions import Delta
from brancher.errors import HandlerTypeError
from brancher.handlers import Message, trace
from brancher.handlers.provenance import Ledger, Provenance
from brancher.infer.particles import probing

#: For each site, the sites that it depends on, each with the plates across whose rows it does so.
Dependencies = dict[str, dict[str, set[str]]]


def get_dependencies(
    model: Callable[..., Any],
    model_args: Sequence[Any] | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    include_deterministic: bool = False,
) -> dict[str, Dependencies]:
    """Find out which sites of a model depend on which, from one run of it.

    In the prior, a site depends on the latent sites whose values reach its distribution. In the posterior, a
    latent site depends on its Markov blanket: on what depends on it, and on the other latent sites that
    share such a site with it (Webb et al. 2018, "Faithful inversion of generative models", section 3.1).
    Every site depends on itself. Sites with all their mass on one point are looked through.

    Args:
        model: the model.
        model_args: its arguments.
        model_kwargs: its keyword arguments.
        include_deterministic: whether to show deterministic sites, and the ways through them.

    Returns:
        ``"prior_dependencies"``: for every site, in the model's order, the sites it depends on;
        ``"posterior_dependencies"``: the same for every latent site. With each stands the set of plates
        across whose rows the dependence goes; without it, rows depend on the row of their own.

    Raises:
        HandlerTypeError: the model is no function.

    Example:
        >>> from brancher.infer import get_dependencies
        >>> def model():
        ...     a = sample("a", dist.Normal(0.0, 1.0))
        ...     b = sample("b", dist.Normal(0.0, 1.0))
        ...     sample("c", dist.Normal(a + b, 1.0), obs=torch.tensor(0.0))
        >>> get_dependencies(model)["posterior_dependencies"]["a"]
        {'a': set(), 'c': set(), 'b': set()}
    """
    if not callable(model):
        raise HandlerTypeError(
            f"get_dependencies: expected a model as a function, got {type(model).__name__}; give the "
            "function itself, not its result"
        )
    sites, parents = _run(model, tuple(model_args or ()), dict(model_kwargs or {}), include_deterministic)
    latent = {site.name for site in sites if site.type == "sample" and not site.is_observed}
    shown = {site.name for site in sites if site.type == "deterministic"} | latent
    plates = {site.name: {frame.name for frame in site.frames if frame.vectorized} for site in sites}
    prior: Dependencies = {}
    for site in sites:
        upstream = [other for other in prior if other in parents[site.name] and other in shown]
        prior[site.name] = {name: set() for name in (*upstream, site.name)}
    return {"prior_dependencies": prior, "posterior_dependencies": _posterior(prior, latent, plates)}


def _posterior(prior: Dependencies, latent: set[str], plates: dict[str, set[str]]) -> Dependencies:
    """Turn arrows around and join the parents of every site; the later of two sites is what comes first."""
    posterior: Dependencies = {name: {} for name in prior if name in latent}
    for child, parents in prior.items():
        for parent in parents:
            if parent in latent:
                posterior[parent].setdefault(child, set())
    place = {name: i for i, name in enumerate(prior)}
    for child, parents in prior.items():
        together = [name for name in parents if name in latent]
        for early in together:
            for late in together:
                if place[late] >= place[early]:
                    # Rows of a plate that the child does not stand in meet in the child.
                    met = plates[early] & plates[late] - plates[child]
                    posterior[early].setdefault(late, set()).update(met)
    return posterior


class _SitesAlone(Provenance):
    """Looks through sites with all their mass on one point."""

    def postprocess_message(self, message: Message) -> None:
        if message.type == "deterministic" or not is_point(message):
            super().postprocess_message(message)


def _run(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], include_deterministic: bool
) -> tuple[list[Message], dict[str, frozenset[str]]]:
    types = ["sample", "factor", *(["deterministic"] if include_deterministic else [])]
    with probing(), Ledger() as ledger, _SitesAlone(ledger, types) as provenance:
        record = trace(model).get_trace(*args, **kwargs)
    sites = [site for site in record.sites(*types) if not (is_point(site) or _is_left_out(site))]
    return sites, provenance.parents


def is_point(site: Message) -> bool:
    """Whether a site has all its mass on one point."""
    law: Any = site.fn
    while hasattr(law, "base_dist"):
        law = law.base_dist
    return isinstance(law, Delta)


def _is_left_out(site: Message) -> bool:
    return site.is_observed and site.mask is False
