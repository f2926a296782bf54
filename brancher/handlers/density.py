"""What a site contributes to the log-density of its model: computed once, here."""

from __future__ import annotations

from typing import Any

import torch

from brancher.distributions import MaskedDistribution
from brancher.distributions.shapes import broadcast_shapes
from brancher.distributions.validation import is_validating
from brancher.errors import BrancherError, SiteError
from brancher.handlers.message import Message

#: Site types that carry a density.
SCORED = ("sample", "factor")


def is_one(scale: Any) -> bool:
    """Whether a scale factor changes nothing; a tensor always counts as a change."""
    return isinstance(scale, (int, float)) and scale == 1


def score(site: Message) -> torch.Tensor:
    """Log-probability of a site's value, masked and scaled, in nats; shape B.

    The result and its sum stay on the site (``unscaled_log_prob``, ``log_prob``,
    ``log_prob_sum``), so that several readers of one trace compute it once.

    Raises:
        SiteError: the value does not fit the distribution, naming the site.
    """
    if site.log_prob is None:
        site.unscaled_log_prob = unscaled = _log_prob(site)
        site.log_prob = unscaled if is_one(site.scale) else site.scale * unscaled
    return site.log_prob


def score_sum(site: Message) -> torch.Tensor:
    """Sum of :func:`score` over the batch dimensions, shape ``()``."""
    if site.log_prob_sum is None:
        log_prob = score(site)
        site.log_prob_sum = log_prob.sum() if log_prob.dim() else log_prob
    return site.log_prob_sum


def mask_of(site: Message) -> torch.Tensor | bool | None:
    """Which rows of a site count, by handlers and by its distribution; None for all.

    A mask under ``to_event`` is one of entries: it hides a row where it hides all of it.
    """
    mask: Any = site.mask
    fn: Any = site.fn
    while fn is not None:
        if isinstance(fn, MaskedDistribution) and fn._mask is not True:
            own = _of_rows(fn._mask, len(site.fn.event_shape) - len(fn.event_shape))
            mask = own if mask is None else mask & own
        fn = getattr(fn, "base_dist", None)
    return mask  # type: ignore[no-any-return]


def _of_rows(mask: torch.Tensor | bool, event_dim: int) -> torch.Tensor | bool:
    for _ in range(event_dim if isinstance(mask, torch.Tensor) else 0):
        mask = mask.any(-1) if mask.dim() else mask  # type: ignore[union-attr]
    return mask


def _log_prob(site: Message) -> torch.Tensor:
    if is_validating():
        _check_fits(site, "mask")
        _check_fits(site, "scale")
    fn = site.fn if site.mask is None else MaskedDistribution(site.fn, site.mask)
    try:
        log_prob: torch.Tensor = fn.log_prob(site.value)
    except BrancherError as error:
        raise SiteError(f"site '{site.name}': {error}") from error
    except ValueError as error:
        # A foreign distribution's own complaint, which can not know the site.
        raise SiteError(f"site '{site.name}': {type(site.fn).__name__} refused the value: {error}") from error
    return log_prob


def _check_fits(site: Message, what: str) -> None:
    """Refuse a mask or scale that would widen the site's density."""
    given = site[what]
    if not isinstance(given, torch.Tensor) or not given.dim():
        return
    batch, got = tuple(site.fn.batch_shape), tuple(given.shape)
    try:
        fits = tuple(broadcast_shapes(got, batch)) == batch
    except RuntimeError:
        fits = False
    if not fits:
        raise SiteError(
            f"site '{site.name}': expected a {what} that broadcasts to batch shape {batch}, got shape {got}; "
            f"give the {what} one entry for each row of the site"
        )
