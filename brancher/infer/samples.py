"""``Samples``: draws by site name that know what their dimensions mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brancher.errors import InferenceError, InferenceTypeError, UnknownNameError, nearest
from brancher.frames import draws_frame, entries_frame, pick
from brancher.handlers import Message, Trace
from brancher.handlers.values import as_plain_tensor
from brancher.infer.diagnostics import ess_bulk, ess_tail, hpdi, mcse_mean, quantile, r_hat

if TYPE_CHECKING:
    import pandas as pd


class Samples(dict[str, torch.Tensor]):
    """Draws by site name: a dict of tensors, shape ``(draws, *site)`` or ``(chains, draws, *site)``.

    Args:
        values: the tensors; they share their leftmost ``batch_ndims`` dimensions.
        dims: names of the other dimensions, by site; a plate's dimension bears the plate's name.
        coords: labels along dimensions, by dimension.
        batch_ndims: 1 for draws, 2 for chains and draws.

    Example:
        >>> from brancher.infer import Samples
        >>> draws = Samples({"x": torch.zeros(4, 2)}, {"x": ("row",)}, {"row": ["a", "b"]})
        >>> list(draws.to_frame().columns)
        ['x[a]', 'x[b]']
    """

    def __init__(
        self,
        values: Mapping[str, torch.Tensor],
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Mapping[str, Sequence[Any]] | None = None,
        batch_ndims: int = 1,
    ) -> None:
        super().__init__(values)
        self.dims = {name: tuple(names) for name, names in (dims or {}).items()}
        self.coords = {name: list(labels) for name, labels in (coords or {}).items()}
        self.batch_ndims = batch_ndims

    @property
    def num_samples(self) -> int:
        """How many draws there are, over all chains."""
        return next((value.shape[: self.batch_ndims].numel() for value in self.values()), 0)

    def to_frame(self, names: Sequence[str] | str | None = None) -> pd.DataFrame:
        """One row a draw, one column an entry, labelled by plate coordinates: ``theta[Choate]``.

        Args:
            names: the sites to show, all for None.
        """
        index = {0: (), 1: ("draw",), 2: ("chain", "draw")}[self.batch_ndims]
        values = pick(self, names)
        if not index:
            values, index = {name: value[None] for name, value in values.items()}, ("draw",)
        return draws_frame(values, index, self.dims, self.coords)

    def __missing__(self, name: str) -> torch.Tensor:
        raise UnknownNameError(
            f"samples: expected one of {list(self)}, got '{name}'"
            f"{nearest(name, self) or '; give it in return_sites'}"
        )

    def summary(self, prob: float = 0.9) -> pd.DataFrame:
        """One row an entry; see :func:`summary`."""
        return summary(self, prob)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {tuple(value.shape)}" for name, value in self.items())
        return f"Samples({shapes})"

    def _repr_html_(self) -> str:
        return self.summary().to_html(float_format="{:.3g}".format)


def summary(samples: Mapping[str, Any], prob: float = 0.9, group_by_chain: bool = False) -> pd.DataFrame:
    """Describe draws by a table with one row an entry.

    Args:
        samples: draws by site, shape ``(draws, *site)``; ``(chains, draws, *site)`` where grouped.
        prob: how much of the draws the highest-density interval holds, in (0, 1).
        group_by_chain: whether the draws are grouped; :class:`Samples` know by themselves.

    Returns:
        A DataFrame with ``mean``, ``sd``, ``median``, the bounds of the interval, and for grouped
        draws ``mcse_mean``, ``ess_bulk``, ``ess_tail`` and ``r_hat``.

    Raises:
        InferenceError: there is no draw, or ``prob`` is outside (0, 1).

    Example:
        >>> summary({"x": torch.arange(5.0)}, prob=0.5)
           mean        sd  median  hpdi_25%  hpdi_75%
        x   2.0  1.581139     2.0       0.0       2.0
    """
    if not isinstance(samples, Mapping):
        raise InferenceTypeError(
            f"summary: expected samples as a mapping from site to tensor, got {type(samples).__name__}; "
            "give mcmc.get_samples() or Predictive(...)()"
        )
    grouped = group_by_chain or getattr(samples, "batch_ndims", 1) == 2
    values = {name: as_plain_tensor(f"summary '{name}'", value) for name, value in samples.items()}
    if getattr(samples, "batch_ndims", 1) == 0:
        values = {name: value[None] for name, value in values.items()}
    columns = {name: _statistics(name, value, prob, grouped) for name, value in values.items()}
    return entries_frame(columns, getattr(samples, "dims", None), getattr(samples, "coords", None))


def _statistics(name: str, value: torch.Tensor, prob: float, grouped: bool) -> dict[str, torch.Tensor]:
    lead = 2 if grouped else 1
    if value.dim() < lead or not value.shape[:lead].numel():
        raise InferenceError(
            f"summary '{name}': expected samples of shape "
            f"{'(chains, draws, ...)' if grouped else '(draws, ...)'}, "
            f"got {tuple(value.shape)}; put the draws on the left"
        )
    chains = value.detach().double() if grouped else value.detach().double()[None]
    draws = chains.flatten(0, 1)
    found = {
        "mean": draws.mean(0),
        "sd": draws.std(0, correction=min(1, len(draws) - 1)),
        "median": quantile(draws, 0.5),
    }
    if len(draws) > 1:
        bounds = hpdi(draws, prob)
        for bound, level in zip(bounds, (0.5 - prob / 2, 0.5 + prob / 2), strict=True):
            found[f"hpdi_{100 * level:g}%"] = bound
    if grouped and chains.shape[1] >= 4:
        found |= {"mcse_mean": mcse_mean(chains), "ess_bulk": ess_bulk(chains)}
        found |= {"ess_tail": ess_tail(chains), "r_hat": r_hat(chains)}
    return found


def labels_of(
    sites: Iterable[Message], record: Trace
) -> tuple[dict[str, tuple[str, ...]], dict[str, list[Any]]]:
    """Names of the dimensions of sites, and labels along them, from the plates they stand under.

    Args:
        sites: sites of one run, without dimensions for draws.
        record: their trace.

    Returns:
        ``dims`` by site and ``coords`` by dimension, as :class:`Samples` takes them.
    """
    dims: dict[str, tuple[str, ...]] = {}
    coords: dict[str, list[Any]] = {}
    for site in sites:
        dims[site.name] = _dims_of(site)
        for frame in site.frames:
            labels = None if frame.coords is None else np.asarray(frame.coords, dtype=object)
            rows = record.nodes.get(frame.name)
            if labels is not None and rows is not None and rows.type == "plate":
                # Rows that are drawn afresh at every run have no labels.
                labels = (
                    labels[rows.value.cpu().numpy()] if rows.kwargs.get("subsample_size") is None else None
                )
            if labels is not None:
                coords[frame.name] = list(labels)
    return dims, coords


def _dims_of(site: Message) -> tuple[str, ...]:
    shape = tuple(site.value.shape)
    frames = {frame.dim: frame for frame in site.frames if frame.dim is not None}
    event_dim = _event_dim(site, shape)
    names = [f"{site.name}_dim_{i}" for i in range(len(shape))]
    for dim, frame in frames.items():
        at = len(shape) - event_dim + dim
        if at >= 0 and shape[at] == frame.size:
            names[at] = frame.name
    return tuple(names)


def _event_dim(site: Message, shape: tuple[int, ...]) -> int:
    if site.type == "sample":
        return len(site.fn.event_shape)
    if site.kwargs.get("event_dim") is not None:
        return int(site.kwargs["event_dim"])
    # Undeclared: the smallest number that puts every plate where its size is.
    wanted = [(frame.dim, frame.size) for frame in site.frames if frame.dim is not None]
    for event_dim in range(len(shape)):
        places = [(len(shape) - event_dim + dim, size) for dim, size in wanted]
        if all(at >= 0 and shape[at] == size for at, size in places):
            return event_dim
    return 0
