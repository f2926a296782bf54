"""The message that travels through the handler stack, and the frame a plate leaves on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import torch

# Names under which a Pyro program reads a site.
_ALIASES = {"cond_indep_stack": "frames"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One independence statement that a site stands under.

    Args:
        name: the plate's name.
        dim: its batch dimension, negative; None for a plate that is iterated.
        size: number of rows present, the subsample's size.
        full_size: number of rows in all.
        counter: which repetition of an iterated plate this is.
        coords: labels of all rows, for tables.
    """

    name: str
    dim: int | None
    size: int
    full_size: int
    counter: int = 0
    coords: Any = field(default=None, compare=False, repr=False)

    @property
    def vectorized(self) -> bool:
        """Whether the plate is a batch dimension rather than a loop."""
        return self.dim is not None


class ScoreParts(NamedTuple):
    """The density of a site as objectives with score-function gradients take it apart.

    Attributes:
        log_prob: masked and scaled, shape B, in nats.
        score_function: what multiplies the loss, by handlers neither masked nor scaled; 0 for a site with
            a pathwise draw.
        entropy_term: the part of ``log_prob`` with a pathwise gradient; 0 for a site without one.
    """

    log_prob: torch.Tensor
    score_function: torch.Tensor | float
    entropy_term: torch.Tensor | float


@dataclass(slots=True)
class Message:
    """What a primitive asks and what the handlers answered; a site once it is in a trace.

    Fields can be read and written as items too (``site["value"]``). ``enumerated`` says, where a handler
    enumerates discrete sites, which of them a batch dimension of the site's tensors belongs to.
    """

    type: str
    name: str
    fn: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    is_observed: bool = False
    infer: dict[str, Any] = field(default_factory=dict)
    scale: Any = 1.0
    mask: Any = None
    frames: tuple[Frame, ...] = ()
    done: bool = False
    stop: bool = False
    continuation: Callable[[Message], None] | None = None
    intervener: object | None = None
    enumerated: dict[int, str] | None = None
    unconstrained: torch.Tensor | None = None
    unscaled_log_prob: torch.Tensor | None = None
    log_prob: torch.Tensor | None = None
    log_prob_sum: torch.Tensor | None = None

    @property
    def score_parts(self) -> ScoreParts | None:
        """The parts of the density, once the site is scored."""
        if self.log_prob is None:
            return None
        if getattr(self.fn, "has_rsample", False):
            return ScoreParts(self.log_prob, 0.0, self.log_prob)
        plain: Any = self.unscaled_log_prob if self.mask is None else self.fn.log_prob(self.value)
        return ScoreParts(self.log_prob, plain, 0.0)

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, _ALIASES.get(key, key))
        except AttributeError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        try:
            setattr(self, _ALIASES.get(key, key), value)
        except AttributeError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """Read a field, or the default where it is absent."""
        return getattr(self, _ALIASES.get(key, key), default)

    def keys(self) -> Iterator[str]:
        """The names of the fields."""
        return (f.name for f in fields(self))

    def items(self) -> Iterator[tuple[str, Any]]:
        """Fields and their contents."""
        return ((key, self[key]) for key in self.keys())

    def copy(self) -> Message:
        """A copy whose fields can be set independently; tensors are shared."""
        twin = copy.copy(self)
        twin.infer = dict(self.infer)
        twin.kwargs = dict(self.kwargs)
        twin.enumerated = None if self.enumerated is None else dict(self.enumerated)
        return twin
