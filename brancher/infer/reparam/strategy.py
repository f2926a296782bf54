"""What a reparametrisation strategy is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypedDict

import torch

from brancher.distributions import ExpandedDistribution, Independent, MaskedDistribution
from brancher.errors import SiteError
from brancher.handlers import Message, reparam


class Rewritten(TypedDict):
    """What becomes of a site.

    Attributes:
        fn: its new distribution; None for a deterministic value.
        value: its value; None to draw it.
        is_observed: whether the value is data.
    """

    fn: Any
    value: torch.Tensor | None
    is_observed: bool


class Reparam(ABC):
    """A way to write a site in other variables; used by ``handlers.reparam``.

    Gorinova, Moore & Hoffman 2020, arXiv:1906.03028, section 3.
    """

    @abstractmethod
    def apply(self, message: Message) -> Rewritten:
        """Sample auxiliary sites and say what becomes of the site.

        Raises:
            SiteError: the site is not of the kind that the strategy is for.
        """


class Strategy(ABC):
    """Chooses a :class:`Reparam` for every site: a ``config`` for ``handlers.reparam``, or a decorator.

    Example:
        >>> from brancher.infer.reparam import LocScaleReparam, Strategy
        >>> class Decenter(Strategy):
        ...     def configure(self, message):
        ...         return LocScaleReparam(0.0) if message.name == "x" else None
        >>> model = Decenter()(lambda: sample("x", dist.Normal(1.0, 2.0)))
        >>> handlers.trace(model).get_trace().stochastic_nodes
        ['x_decentered']
    """

    @abstractmethod
    def configure(self, message: Message) -> Reparam | None:
        """The reparametrisation of a site, or None."""

    def __call__(self, message: Message | Callable[..., Any]) -> Any:
        """Choose for a site; or rewrite a model, given a function."""
        return self.configure(message) if isinstance(message, Message) else reparam(message, config=self)


def unwrapped(fn: Any) -> tuple[Any, int]:
    """A distribution inside ``to_event`` and ``expand``, and how many dimensions ``to_event`` took."""
    event_dim = 0
    while isinstance(fn, (Independent, ExpandedDistribution, torch.distributions.Independent)):
        if not isinstance(fn, ExpandedDistribution):
            event_dim += fn.reinterpreted_batch_ndims
        fn = fn.base_dist
    return fn, event_dim


def latent_only(strategy: object, message: Message) -> None:
    """Refuse an observed or partly observed site.

    Raises:
        SiteError: naming site and strategy.
    """
    kind = type(strategy).__name__
    if message.is_observed:
        raise SiteError(
            f"site '{message.name}': expected a latent site for {kind}, got an observed one; take it out "
            "of config"
        )
    if isinstance(message.fn, MaskedDistribution):
        raise SiteError(
            f"site '{message.name}': expected a distribution without mask for {kind}, got one masked by "
            ".mask(); use handlers.mask instead"
        )


def wrong_family(strategy: object, message: Message, expected: str) -> SiteError:
    """The error for a distribution that a strategy is not for."""
    return SiteError(
        f"site '{message.name}': expected {expected} for {type(strategy).__name__}, got "
        f"{type(unwrapped(message.fn)[0]).__name__}; take the site out of config"
    )
