"""What an observation must look like, and observing only some entries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from brancher.distributions import MaskedDistribution
from brancher.distributions.shapes import broadcast
from brancher.distributions.validation import is_validating
from brancher.errors import BrancherWarning, DistributionError, SiteError, SiteTypeError
from brancher.handlers import stack
from brancher.handlers.message import Message
from brancher.handlers.plate import UNKNOWN, open_frames
from brancher.handlers.record import family
from brancher.handlers.values import as_value


def check_observation(site: Message) -> None:
    """Check an observed value against its distribution: shape, device and NaN.

    Raises:
        SiteError: the value would broadcast to another shape, or holds NaN where it counts.
    """
    value, fn = site.value, site.fn
    if not isinstance(value, torch.Tensor) or site.infer.get("was_observed"):
        return
    batch, event = tuple(fn.batch_shape), tuple(fn.event_shape)
    expected = batch + event
    got = tuple(value.shape)
    if got != expected and getattr(fn, "takes_any_length", False):
        steps = len(got) - len(event)
        expected = batch + got[steps : steps + 1] + event[1:]
    if got != expected:
        _check_shape(site, got, expected)
        _warn_repeated(site, got)
    _check_device(site, value)
    check_nan(site)


def _check_shape(site: Message, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    try:
        joint = tuple(broadcast("obs", got, expected))
    except DistributionError:
        joint = None
    if joint != expected:
        outcome = "which do not broadcast" if joint is None else f"which broadcasts to {list(joint)}"
        raise SiteError(
            f"site '{site.name}': expected obs of shape {list(expected)} (batch {list(site.fn.batch_shape)}, "
            f"event {list(site.fn.event_shape)}), got {list(got)}, {outcome}; reshape the data, or put the "
            "site into a plate of their size"
        )


def _warn_repeated(site: Message, got: tuple[int, ...]) -> None:
    # Only a plate of the model counts an observation several times by mistake.
    rank = len(site.fn.event_shape)
    repeated = [
        frame
        for frame in site.frames
        if frame.dim is not None
        and frame.size > 1
        and _size_at(got, frame.dim - rank) == 1
        and frame.full_size > 0
    ]
    for frame in repeated:
        if not frame.name.startswith("_"):
            warnings.warn(
                f"site '{site.name}': expected obs with {frame.size} rows for plate '{frame.name}', got "
                f"shape {got}: it is broadcast and counted {frame.size} times; expand it if that is meant",
                BrancherWarning,
                stacklevel=4,
            )


def _size_at(shape: tuple[int, ...], dim: int) -> int:
    return shape[dim] if len(shape) >= -dim else 1


def _check_device(site: Message, value: torch.Tensor) -> None:
    theirs = _device_of(site.fn)
    # A single number of the CPU goes with tensors of every device.
    if theirs is None or value.device == theirs or (value.device.type == "cpu" and not value.dim()):
        return
    raise SiteError(
        f"site '{site.name}': expected obs on device {theirs}, where the parameters of its "
        f"{family(site.fn)} are, got device {value.device}; move the data with .to('{theirs}')"
    )


def _device_of(fn: Any) -> torch.device | None:
    """Where the tensors of a distribution lie; None for mere numbers on the CPU."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    for part in vars(fn).values():
        if isinstance(part, torch.Tensor) and (part.dim() or part.device.type != "cpu"):
            return part.device
    return None


def check_nan(site: Message) -> None:
    """Refuse NaN among observed data, where neither a mask nor the law says that they do not count.

    Raises:
        SiteError: naming the site, how many are NaN and the first of them.
    """
    value, masked = site.value, site.mask is not None or isinstance(site.fn, MaskedDistribution)
    if masked or not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.is_meta:
        return
    bad = torch.isnan(value)
    if bool(bad.any()) and not _takes_nan(site.fn):
        where = bad.nonzero()
        first = [tuple(row) for row in where[:3].tolist()]
        raise SiteError(
            f"site '{site.name}': expected observed data without NaN, got {len(where)} NaN, the first at "
            f"{first}; drop them, or mask them with handlers.mask or obs_mask"
        )


def _takes_nan(fn: Any) -> bool:
    """Whether a law reads NaN as "not observed"."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return getattr(fn, "takes_nan", False)


def split_observation(
    sample: Callable[..., torch.Tensor],
    name: str,
    fn: Any,
    obs: Any,
    obs_mask: torch.Tensor | bool,
    infer: dict[str, Any] | None,
) -> torch.Tensor:
    """Observe the entries that a mask selects and draw the others as ``{name}_unobserved``.

    Returns:
        The completed value, recorded as the deterministic site ``name``.

    Raises:
        SiteTypeError: the mask is not boolean.
        SiteError: the mask does not have one entry a row.
    """
    mask = _as_mask(name, obs_mask)
    if is_validating():
        _check_mask(name, tuple(mask.shape), tuple(fn.batch_shape))
    unobserved = sample(f"{name}_unobserved", fn.mask(~mask), infer=infer)
    if obs is None:
        value = unobserved
    else:
        aligned = mask.reshape(mask.shape + (1,) * len(fn.event_shape)).to(unobserved.device)
        data = torch.where(aligned, as_value(name, obs, fn), _filler(unobserved.detach(), mask, fn))
        sample(f"{name}_observed", fn.mask(mask), obs=data)
        value = torch.where(aligned, data, unobserved)
    message = Message("deterministic", name, None, value=value, done=True)
    message.kwargs["event_dim"] = len(fn.event_shape)
    return stack.apply(message).value  # type: ignore[no-any-return]


def _filler(unobserved: torch.Tensor, mask: torch.Tensor, fn: Any) -> torch.Tensor:
    """Values inside the support for entries that do not count; the first of those that are enumerated."""
    plates = [-frame.dim for frame in open_frames() if frame.dim is not None]
    rank = max([mask.dim(), len(fn.batch_shape), *plates]) + len(fn.event_shape)
    while unobserved.dim() > rank:
        unobserved = unobserved[0]
    return unobserved


def _as_mask(name: str, obs_mask: Any) -> torch.Tensor:
    is_boolean = isinstance(obs_mask, (bool, np.bool_)) or getattr(obs_mask, "dtype", None) in (
        torch.bool,
        bool,
    )
    if not is_boolean:
        kind = getattr(obs_mask, "dtype", type(obs_mask).__name__)
        raise SiteTypeError(
            f"site '{name}': expected obs_mask as a bool or a boolean tensor, got {kind}; write obs_mask > 0"
        )
    return torch.as_tensor(np.asarray(obs_mask) if not isinstance(obs_mask, torch.Tensor) else obs_mask)


def _check_mask(name: str, got: tuple[int, ...], batch: tuple[int, ...]) -> None:
    plates = {f.dim: f.size for f in open_frames() if f.dim is not None and f.size is not UNKNOWN}
    rank = max([len(batch), *(-dim for dim in plates)])
    own = (1,) * (rank - len(batch)) + batch
    expected = tuple(plates.get(dim, own[dim]) for dim in range(-rank, 0))
    fits = len(got) <= rank and all(got[d] in (1, expected[d]) for d in range(-len(got), 0))
    if not fits:
        raise SiteError(
            f"site '{name}': expected obs_mask of shape {expected}, one entry a row, got {got}; it is true "
            "where obs is observed"
        )
