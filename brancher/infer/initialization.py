"""Where inference starts: strategies that choose a first value for each latent site.

A strategy is a function from a site to a value inside its support. Called without a site, it
returns itself with its options set, so ``init_loc_fn=init_to_uniform(radius=1.0)`` and
``init_loc_fn=init_to_uniform`` both work.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from brancher.distributions import biject_to
from brancher.distributions.shapes import unconstrained_shape
from brancher.errors import BrancherWarning, GuideError, nearest
from brancher.handlers.message import Message
from brancher.handlers.record import Trace
from brancher.handlers.values import as_value

#: A strategy: from a site to a value in its support.
Init: TypeAlias = Callable[[Message], torch.Tensor]


def init_to_feasible(site: Message | None = None) -> Any:
    """Start at the point of the support that the origin of unconstrained space stands for.

    Example:
        >>> model = lambda: sample("x", dist.Gamma(5.0, 1.0))
        >>> init_to_feasible(handlers.trace(model).get_trace()["x"])
        tensor(1.)
    """
    if site is None:
        return init_to_feasible
    return _from_unconstrained(site, torch.zeros)


def init_to_uniform(site: Message | None = None, radius: float = 2.0) -> Any:
    """Start at a uniform draw from ``(-radius, radius)`` in unconstrained space.

    Args:
        site: the site; None to set the option.
        radius: half the width; >= 0.
    """
    if site is None:
        return functools.partial(init_to_uniform, radius=radius)

    def draw(shape: torch.Size, **kind: Any) -> torch.Tensor:
        return torch.empty(shape, **kind).uniform_(-radius, radius)

    return _from_unconstrained(site, draw)


def init_to_sample(site: Message | None = None) -> Any:
    """Start at a draw from the prior; at :func:`init_to_feasible` where it can not be drawn from."""
    if site is None:
        return init_to_sample
    drawn = _draws(site, ())
    return init_to_feasible(site) if drawn is None else drawn


def init_to_median(
    site: Message | None = None, num_samples: int = 15, *, fallback: Init | None = init_to_feasible
) -> Any:
    """Start at the entry-wise median of draws from the prior, where that lies in the support.

    Args:
        site: the site; None to set the options.
        num_samples: how many draws, > 0.
        fallback: strategy for sites without such a median; None to refuse them.

    Raises:
        GuideError: a site has no median and there is no fallback.
    """
    if site is None:
        return functools.partial(init_to_median, num_samples=num_samples, fallback=fallback)
    drawn = _draws(site, (num_samples,))
    if drawn is not None:
        value = drawn.median(dim=0).values
        if _is_inside(site, value):
            return value
    return _fall_back("init_to_median", site, fallback)


def init_to_mean(site: Message | None = None, *, fallback: Init | None = init_to_median) -> Any:
    """Start at the mean of the prior, where it is finite and lies in the support.

    Args:
        site: the site; None to set the option.
        fallback: strategy for sites without such a mean; None to refuse them.

    Raises:
        GuideError: a site has no mean and there is no fallback.
    """
    if site is None:
        return functools.partial(init_to_mean, fallback=fallback)
    try:
        value = site.fn.mean.detach().clone()
    except (NotImplementedError, AttributeError):
        value = None
    if value is not None and _is_inside(site, value):
        return value
    return _fall_back("init_to_mean", site, fallback)


def init_to_value(
    site: Message | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    fallback: Init | None = init_to_median,
) -> Any:
    """Start at given values.

    Args:
        site: the site; None to set the options.
        values: constrained values by site name (tensors, arrays or numbers); for a subsampled
            plate either all rows or those present.
        fallback: strategy for sites that ``values`` lacks; None to refuse them.

    Raises:
        GuideError: a site has no value and there is no fallback.
    """
    if site is None:
        return functools.partial(init_to_value, values=values, fallback=fallback)
    value = (values or {}).get(site.name)
    if value is None:
        return _fall_back("init_to_value", site, fallback)
    like = _like(site)
    return as_value(site.name, value, site.fn).detach().to(dtype=like.dtype, device=like.device)


def warn_unknown_values(init: Init, record: Trace, owner: str) -> None:
    """Warn about names given to :func:`init_to_value` that are no site of the model."""
    values = init.keywords.get("values") if isinstance(init, functools.partial) else None
    for name in values or ():
        if name not in record:
            warnings.warn(
                f"{owner}: expected initial values of the sites {record.stochastic_nodes}, got one of "
                f"'{name}'{nearest(name, record.stochastic_nodes) or '; it is ignored'}",
                BrancherWarning,
                stacklevel=6,
            )


def init_to_generated(
    site: Message | None = None, generate: Callable[[], Init] = lambda: init_to_median
) -> Any:
    """Start with a strategy made afresh for each run of the model, for several random starts.

    Args:
        site: the site; None to set the option.
        generate: returns a strategy, such as ``lambda: init_to_value(values=next(starts))``.
    """
    init = _EachRun(generate)
    return init if site is None else init(site)


def init_to_draw(site: Message | None = None, draws: Mapping[str, Any] | None = None) -> Any:
    """Start each run of the model, each chain of a sampler, at a draw of its own from given ones.

    The sites of one run take the same row, so that what the draws know of their dependence is kept. Sites
    without draws start at :func:`init_to_uniform`.

    Args:
        site: the site; None to set the option.
        draws: constrained values by site with the draws on the left, as a fitted guide's
            ``sample_posterior``, ``Pathfinder.get_samples``, ``Predictive`` or an earlier run gives them.

    Example:
        >>> start = init_to_draw(draws={"x": torch.tensor([1.0, 1.0])})
        >>> start(handlers.trace(lambda: sample("x", dist.Normal(0.0, 1.0))).get_trace()["x"])
        tensor(1.)
    """
    lead = getattr(draws, "batch_ndims", 1)
    rows = {name: torch.as_tensor(value).detach() for name, value in (draws or {}).items()}
    rows = {name: value.flatten(0, lead - 1) if lead > 1 else value for name, value in rows.items()}
    count = min((len(value) for value in rows.values()), default=0)

    def one() -> Init:
        row = int(torch.randint(max(count, 1), ()))
        values = {name: value[row] for name, value in rows.items()}
        return functools.partial(init_to_value, values=values, fallback=init_to_uniform)

    init = _EachRun(one)
    return init if site is None else init(site)


class _EachRun:
    """Asks for a strategy at the first site of each run: a site that comes again begins a new one."""

    def __init__(self, generate: Callable[[], Init]) -> None:
        self.generate = generate
        self.strategy: Init | None = None
        self.seen: set[str] = set()

    def __call__(self, site: Message) -> torch.Tensor:
        if self.strategy is None or site.name in self.seen:
            self.strategy, self.seen = self.generate(), set()
        self.seen.add(site.name)
        return self.strategy(site)


def _from_unconstrained(site: Message, make: Callable[..., torch.Tensor]) -> torch.Tensor:
    like = _like(site)
    transform = biject_to(site.fn.support)
    shape = unconstrained_shape(transform, like.shape)
    return transform(make(shape, dtype=like.dtype, device=like.device))  # type: ignore[no-any-return]


def _draws(site: Message, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Draws from the prior; None where there is no way to draw."""
    try:
        return site.fn.sample(torch.Size(shape)).detach()  # type: ignore[no-any-return]
    except NotImplementedError:
        return None


def _like(site: Message) -> torch.Tensor:
    """A tensor of the shape, dtype and device of the site's values."""
    drawn = _draws(site, ())
    return torch.zeros(site.fn.batch_shape + site.fn.event_shape) if drawn is None else drawn


def _is_inside(site: Message, value: torch.Tensor) -> bool:
    return bool(torch.isfinite(value).all()) and bool(site.fn.support.check(value).all())


def _fall_back(strategy: str, site: Message, fallback: Init | None) -> torch.Tensor:
    if fallback is None:
        raise GuideError(
            f"site '{site.name}': expected an initial value from {strategy}, got none for "
            f"{type(site.fn).__name__} and fallback=None; add the site to values, or give a fallback"
        )
    return fallback(site)
