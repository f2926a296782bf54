"""What one run of a model shows a guide: its latent sites, their plates, shapes and supports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.distributions.transforms import AffineTransform, ComposeTransform, IndependentTransform, Transform

from brancher.distributions import biject_to
from brancher.errors import GuideError, PlateError
from brancher.handlers import Frame, Message, Trace, stack, substitute, trace
from brancher.handlers.plate import is_index
from brancher.infer.checks import require_latents
from brancher.infer.initialization import Init, warn_unknown_values
from brancher.staging import random_state_kept

Fn = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Latent:
    """One latent site as the guide needs to know it.

    Attributes:
        name: the site.
        frames: the plates it stands under, outermost first, none of them iterated.
        batch_shape: B with the full size of every plate.
        event_dim: rank of E.
        free_shape: shape of one event in unconstrained space.
        support: where its values lie.
        transform: from unconstrained space onto the support; None for the identity.
        is_bounded: whether tensors bound the support, so that it may change from call to call.
        is_masked: whether some entries may count for nothing, which may change as well.
        start: first value, shape B + E.
        free_start: the same in unconstrained space, shape B + free_shape.
    """

    name: str
    frames: tuple[Frame, ...]
    batch_shape: torch.Size
    event_dim: int
    free_shape: torch.Size
    support: Any
    transform: Transform | None
    is_bounded: bool
    is_masked: bool
    start: torch.Tensor
    free_start: torch.Tensor

    @property
    def free_dim(self) -> int:
        """Rank of an event in unconstrained space."""
        return len(self.free_shape)

    def rows(
        self, value: torch.Tensor, indices: dict[str, torch.Tensor | None], event_dim: int
    ) -> torch.Tensor:
        """Cut a value that has all rows of every plate down to the rows present."""
        for frame in self.frames:
            chosen = indices.get(frame.name)
            if chosen is not None and frame.dim is not None:
                if not is_index(chosen):
                    raise GuideError(
                        f"plate '{frame.name}': expected subsample as row indices around the latent site "
                        f"'{self.name}', which has all {frame.full_size} rows in the guide, got data; write "
                        "subsample=indices"
                    )
                value = value.index_select(frame.dim - event_dim, chosen)
        return value


class Prototype(NamedTuple):
    """What one run of the model showed.

    Attributes:
        latents: the latent sites in the model's order.
        given: names of plates whose rows the model chose itself (``subsample=``).
        trace: the run.
    """

    latents: tuple[Latent, ...]
    given: frozenset[str]
    trace: Trace


@contextmanager
def aside() -> Iterator[None]:
    """Run a model for what it shows: no handler sees it, gradients and random state are as before."""
    with stack.emptied(), random_state_kept(), torch.no_grad():
        yield


def look(model: Fn, init: Init, args: tuple[Any, ...], kwargs: dict[str, Any], guide: str) -> Prototype:
    """Run the model once, each latent site at its first value.

    Args:
        model: the model.
        init: the strategy for first values.
        args: its arguments.
        kwargs: its keyword arguments.
        guide: the guide's kind, for messages.

    Raises:
        GuideError: a site can not be guided, naming it.
        InferenceError: the model has no latent site.
    """
    starts: dict[str, torch.Tensor] = {}
    given: set[str] = set()

    def answer(message: Message) -> torch.Tensor | None:
        if message.type == "plate" and message.value is not None:
            given.add(message.name)
        if message.type != "sample" or message.value is not None or is_enumerated(message):
            return None
        _refuse_discrete(message, guide)
        starts[message.name] = start = init(message).detach()
        return rows_present(message, start)

    with aside(), substitute(substitute_fn=answer):
        record = trace(model).get_trace(*args, **kwargs)
    if guide != "AutoDelta":  # without latent sites, that is maximum likelihood of the model's parameters
        require_latents(record, guide)
    warn_unknown_values(init, record, guide)
    sites = [record[name] for name in record.stochastic_nodes if name in starts]
    latents = tuple(_latent(site, starts[site.name]) for site in sites)
    return Prototype(latents, frozenset(given), record)


def is_enumerated(message: Message) -> bool:
    """Whether an enumerating ELBO sums the site out, so that no guide is needed."""
    return bool(message.infer.get("enumerate"))


def free_transform(support: Any) -> Transform | None:
    """The bijection from unconstrained space onto a support; None for the identity."""
    return simplified(biject_to(support))


def simplified(transform: Transform) -> Transform | None:
    """Leave out the steps of a transform that change nothing."""
    if isinstance(transform, IndependentTransform):
        base = simplified(transform.base_transform)
        return None if base is None else IndependentTransform(base, transform.reinterpreted_batch_ndims)
    if isinstance(transform, ComposeTransform):
        parts = [part for part in map(simplified, transform.parts) if part is not None]
        if len(parts) > 1:
            return ComposeTransform(parts)
        return parts[0] if parts else None
    if isinstance(transform, AffineTransform):
        numbers = isinstance(transform.loc, (int, float)) and isinstance(transform.scale, (int, float))
        return None if numbers and transform.loc == 0 and transform.scale == 1 else transform
    return transform


def has_tensors(part: Any) -> bool:
    """Whether a support is bounded by tensors, which another call may compute otherwise."""
    if isinstance(part, torch.Tensor):
        return True
    if isinstance(part, (list, tuple)):
        return any(map(has_tensors, part))
    return any(map(has_tensors, vars(part).values())) if hasattr(part, "__dict__") else False


def is_masked(site: Message) -> bool:
    """Whether some entries of a site may count for nothing."""
    fn: Any = site.fn
    while fn is not None:
        if getattr(fn, "_mask", True) is not True:
            return True
        fn = getattr(fn, "base_dist", None)
    return isinstance(site.mask, torch.Tensor) or site.mask is False


def without_padding(latent: Latent, value: torch.Tensor) -> torch.Tensor:
    """Draws without the dimensions of size 1 between them and the site's own."""
    own = value.dim() - len(latent.batch_shape) - latent.event_dim
    return value.reshape(value.shape[:1] + value.shape[own:])


def _refuse_discrete(message: Message, guide: str) -> None:
    try:
        is_discrete = message.fn.support.is_discrete
    except NotImplementedError:
        is_discrete = False
    if is_discrete:
        raise GuideError(
            f"{guide}: expected continuous latent sites, got site '{message.name}' with the discrete "
            f"{type(message.fn).__name__}; sum it out, guide it by hand in an AutoGuideList, or hide it with "
            f"handlers.block(model, hide=['{message.name}'])"
        )


def rows_present(message: Message, start: torch.Tensor) -> torch.Tensor:
    """A start for the rows that the run has, also where it was given for all rows of a plate.

    Raises:
        GuideError: it does not have the site's shape.
    """
    value, rank = start, len(message.fn.event_shape)
    for frame in message.frames:
        if frame.dim is None or value.dim() < rank - frame.dim or frame.size == frame.full_size:
            continue
        if value.shape[frame.dim - rank] == frame.full_size:
            value = value.index_select(frame.dim - rank, torch.arange(frame.size, device=value.device))
    shape = message.fn.batch_shape + message.fn.event_shape
    try:
        return value.expand(shape)
    except RuntimeError:
        raise GuideError(
            f"site '{message.name}': expected an initial value of shape {tuple(shape)}, got "
            f"{tuple(start.shape)}; correct what init_loc_fn returns"
        ) from None


def _latent(site: Message, start: torch.Tensor) -> Latent:
    for frame in site.frames:
        if frame.dim is None and frame.size != frame.full_size:
            raise PlateError(
                f"plate '{frame.name}': expected a vectorized plate around the latent site '{site.name}', "
                "got one that is iterated over a subsample; write with plate(...), not for ... in plate(...)"
            )
    frames = tuple(frame for frame in site.frames if frame.dim is not None)
    support, rank = site.fn.support, len(site.fn.event_shape)
    transform, is_bounded = free_transform(support), has_tensors(support)
    free_rank = (
        rank if transform is None else rank + transform.domain.event_dim - transform.codomain.event_dim
    )
    shape = _full_shape(site, frames, rank)
    if start.numel() == shape.numel() and not is_bounded:
        start = start.reshape(shape)
        free = _free(site, start, transform)
    else:
        # Bounds made of tensors are there for the rows present alone.
        free = all_rows(_free(site, site.value, transform), frames, free_rank)
        start = all_rows(site.value, frames, rank)
    cut = free.dim() - free_rank
    return Latent(
        site.name,
        frames,
        free.shape[:cut],
        rank,
        free.shape[cut:],
        support,
        transform,
        is_bounded,
        is_masked(site),
        start.clone(),
        free.clone(),
    )


def _full_shape(site: Message, frames: tuple[Frame, ...], rank: int) -> torch.Size:
    shape = list(site.value.shape)
    for frame in frames:
        shape[frame.dim - rank] = frame.full_size  # type: ignore[operator]
    return torch.Size(shape)


def all_rows(value: torch.Tensor, frames: tuple[Frame, ...], rank: int) -> torch.Tensor:
    """Give every row of a subsampled plate a value, repeating those of the rows present."""
    for frame in frames:
        if frame.size != frame.full_size:
            rows = torch.arange(frame.full_size, device=value.device) % frame.size
            value = value.index_select(frame.dim - rank, rows)  # type: ignore[operator]
    return value


def _free(site: Message, start: torch.Tensor, transform: Transform | None) -> torch.Tensor:
    """A start in unconstrained space.

    Raises:
        GuideError: it lies outside the support or on its boundary.
    """
    inside = bool(site.fn.support.check(start).all())
    free = start if transform is None else transform.inv(start)
    if not inside or not bool(torch.isfinite(free).all()):
        raise GuideError(
            f"site '{site.name}': expected an initial value inside its support {site.fn.support}, off the "
            f"boundary, got {start.flatten()[:3].tolist()}; choose another init_loc_fn, such as "
            "init_to_feasible"
        )
    return free
