"""``sample``: name a random variable."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from brancher.distributions.validation import is_validating
from brancher.errors import BrancherWarning, SiteError, SiteTypeError
from brancher.handlers import stack
from brancher.handlers.message import Message
from brancher.handlers.values import as_value
from brancher.primitives.observation import check_observation, split_observation


class _NotGiven:
    """Tells ``obs=None``, data that were forgotten, from no ``obs`` at all."""

    def __repr__(self) -> str:
        return "None"


_NOT_GIVEN: Any = _NotGiven()


def sample(
    name: str,
    fn: Any,
    *args: Any,
    obs: Any = _NOT_GIVEN,
    obs_mask: torch.Tensor | bool | None = None,
    infer: dict[str, Any] | None = None,
    sample_shape: Sequence[int] | None = None,
) -> torch.Tensor:
    """Draw a random variable, or observe it.

    Args:
        name: unique within the model.
        fn: a distribution, or any object with the interface of ``torch.distributions``.
        *args: a sample shape for the draw, rarely needed; ``expand`` and plates are usual.
        obs: observed value (tensor, array, Series or number); None leaves the variable latent.
        obs_mask: bool or boolean tensor over B, true where ``obs`` is observed; the other
            entries become the latent site ``{name}_unobserved``.
        infer: options for inference algorithms, such as ``{"is_auxiliary": True}``.
        sample_shape: the sample shape by name.

    Returns:
        The value, shape B + E, B widened by the plates around.

    Raises:
        SiteTypeError: the name is no string, ``fn`` no distribution, ``obs`` nothing numeric or ``infer``
            no dict.
        SiteError: the name is empty or the observation does not fit.

    Example:
        >>> x = sample("x", dist.Normal(torch.zeros(3), 1.0))
        >>> x.shape
        torch.Size([3])
    """
    if type(name) is not str or not name:
        refuse_name("sample", name)
    if not hasattr(fn, "log_prob") or isinstance(fn, type):
        got = f"the class {fn.__name__}" if isinstance(fn, type) else type(fn).__name__
        raise SiteTypeError(
            f"site '{name}': expected a distribution, got {got}; write "
            f"sample('{name}', dist.Normal(loc, scale)), or deterministic('{name}', value) for a value"
        )
    if obs_mask is not None:
        return split_observation(sample, name, fn, None if obs is _NOT_GIVEN else obs, obs_mask, infer)
    if infer is not None and not isinstance(infer, Mapping):
        raise SiteTypeError(
            f"site '{name}': expected infer as a dict of options, got {type(infer).__name__}; write "
            "infer={'is_auxiliary': True} or the like"
        )
    if sample_shape is not None:
        args = (sample_shape,)
    if args and not isinstance(args[0], (tuple, list)):
        raise SiteTypeError(
            f"site '{name}': expected a sample shape as the third argument, got {type(args[0]).__name__}; "
            "write obs=data for an observed value"
        )
    if infer and not _OPTIONS.issuperset(infer) and is_validating():
        _warn_options(name, infer)
    message = Message("sample", name, fn, args, infer=dict(infer) if infer else {})
    if obs is not None and obs is not _NOT_GIVEN:
        is_ready = isinstance(obs, torch.Tensor) and obs.is_floating_point()
        message.value = obs if is_ready else as_value(name, obs, fn)
        message.is_observed = True
    elif obs is None:
        message.infer["obs_is_none"] = True
    stack.apply(message)
    if message.is_observed and message.type == "sample" and is_validating():
        check_observation(message)
    return message.value  # type: ignore[no-any-return]


#: Options that the algorithms here know; others are a program's own.
_OPTIONS = frozenset({"baseline", "enumerate", "expand", "is_auxiliary", "is_observed", "num_samples", "tmc"})


def _warn_options(name: str, infer: Mapping[str, Any]) -> None:
    for key in infer:
        close = difflib.get_close_matches(str(key), _OPTIONS, n=1, cutoff=0.8)
        if key not in _OPTIONS and close:
            warnings.warn(
                f"site '{name}': expected infer options {sorted(_OPTIONS)} or one's own, got {key!r}; did "
                f"you mean '{close[0]}'?",
                BrancherWarning,
                stacklevel=3,
            )


def refuse_name(kind: str, name: Any) -> None:
    """Raise for a site name that is no string or is empty."""
    if not isinstance(name, str):
        raise SiteTypeError(
            f"{kind}: expected the name of a site as a str, got {name!r} of type {type(name).__name__}; "
            f"write {kind}('x', ...)"
        )
    if not name:
        raise SiteError(f"{kind}: expected a non-empty name, got ''; give every site a name")
