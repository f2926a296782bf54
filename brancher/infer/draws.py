"""What algorithms that are given draws ask of them: one number of draws, on the left."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import torch

from brancher.distributions.shapes import broadcast_shapes
from brancher.errors import BrancherWarning, InferenceError, InferenceTypeError, nearest
from brancher.handlers import Message, Trace


def check_count(owner: str, name: str, value: Any) -> None:
    """Refuse a number that is neither None nor a positive int.

    Raises:
        InferenceError: naming owner, argument and value.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
        raise InferenceError(f"{owner}: expected {name} as an int > 0, got {value!r}; 1000 is usual")


def flat_draws(
    owner: str, samples: Mapping[str, Any], batch_ndims: int | None
) -> tuple[dict[str, torch.Tensor], torch.Size | None]:
    """Bring samples to shape (draws, *site), and return what the draws' dimensions were.

    Raises:
        InferenceTypeError: the samples are no mapping to tensors or arrays.
        InferenceError: two sites differ in their number of draws, or there is none.
    """
    if not isinstance(samples, Mapping):
        raise InferenceTypeError(
            f"{owner}: expected posterior_samples as a mapping from site to tensor, got "
            f"{type(samples).__name__}; write {{'x': tensor}}"
        )
    lead = getattr(samples, "batch_ndims", 1) if batch_ndims is None else batch_ndims
    if isinstance(lead, bool) or not isinstance(lead, int) or not 0 <= lead <= 2:
        raise InferenceError(
            f"{owner}: expected batch_ndims as 0, 1 or 2, got {lead!r}; 2 is for samples grouped by chain"
        )
    flat: dict[str, torch.Tensor] = {}
    first: tuple[str, torch.Size] | None = None
    for name, value in samples.items():
        if not isinstance(name, str):
            raise InferenceTypeError(
                f"{owner}: expected posterior_samples by site name, a str, got the key {name!r} of type "
                f"{type(name).__name__}; write {{'x': tensor}}"
            )
        tensor = _tensor(owner, name, value)
        shape = tensor.shape[:lead]
        if len(shape) < lead or not shape.numel():
            raise InferenceError(
                f"{owner} '{name}': expected samples with {lead} dimensions of draws on the left, got shape "
                f"{tuple(tensor.shape)}; "
                "give every site at least one draw"
            )
        first = first or (name, shape)
        if shape != first[1]:
            raise InferenceError(
                f"{owner}: expected samples of one length, got {_length(first[1])} draws of '{first[0]}' and "
                f"{_length(shape)} of '{name}'; take both from one run"
            )
        flat[name] = tensor.detach().reshape((shape.numel(), *tensor.shape[lead:]))
    return flat, None if first is None else first[1]


def _length(shape: torch.Size) -> str:
    return " x ".join(map(str, shape))


def _tensor(owner: str, name: str, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise InferenceTypeError(
            f"{owner} '{name}': expected posterior_samples['{name}'] as a tensor or array, got "
            f"{type(value).__name__}; convert it with torch.as_tensor"
        ) from None
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def refuse_nan(name: str, values: torch.Tensor) -> None:
    """Refuse draws of a site that are NaN.

    Raises:
        InferenceError: naming the site, how many entries are NaN and the first of them.
    """
    if not values.is_floating_point():
        return
    bad = torch.isnan(values).nonzero()
    if len(bad):
        raise InferenceError(
            f"site '{name}': expected posterior samples without NaN, got {len(bad)} NaN among "
            f"{values.numel()} values, the first at index {tuple(bad[0].tolist())}; look for the run that "
            "made them, or leave these draws out"
        )


def warn_unknown(owner: str, given: Mapping[str, torch.Tensor], record: Trace) -> None:
    """Warn about samples of sites that the model does not have."""
    for name in given:
        if name not in record:
            warnings.warn(
                f"{owner} '{name}': expected samples of the sites {record.names()}, got one of no site"
                f"{nearest(name, record.names()) or '; it is ignored'}",
                BrancherWarning,
                stacklevel=4,
            )


def fitting(message: Message, value: torch.Tensor) -> torch.Tensor:
    """One draw's value for a site, without dimensions of size 1 that the site does not have.

    Raises:
        InferenceError: the shapes do not fit, naming both.
    """
    if message.type != "sample":
        return value
    shape = tuple(message.fn.batch_shape) + tuple(message.fn.event_shape)
    while value.dim() > len(shape) and value.shape[0] == 1:
        value = value.squeeze(0)
    try:
        fits = tuple(broadcast_shapes(value.shape, shape)) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise InferenceError(
            f"site '{message.name}': expected samples of shape (draws, {', '.join(map(str, shape))}), got "
            f"{tuple(value.shape)} after the draws; give batch_ndims=2 for samples grouped by chain, or the "
            "arguments that the samples belong to"
        )
    return value
