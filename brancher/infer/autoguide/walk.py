"""Ask a model what depends on the call: supports and masks of sites, rows of plates.

``Uniform(0, a)`` has a support that moves with ``a``; ``plate(..., subsample=rows)`` has rows that
only the model knows. The guide then runs the model, gives each latent site its value at the
moment the model comes to it, and stops as soon as everything asked for is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.distributions.transforms import Transform

from brancher.distributions.constraints import same_constraint
from brancher.distributions.validation import validation_enabled
from brancher.errors import GuideError
from brancher.handlers import Message, Messenger, stack
from brancher.handlers.density import mask_of
from brancher.infer.autoguide.prototype import Latent, free_transform, is_enumerated

Fn: TypeAlias = Callable[..., Any]
#: Indices by plate; None, or no entry, for all rows.
Rows: TypeAlias = dict[str, torch.Tensor | None]


class Spot(NamedTuple):
    """A latent site as one call finds it.

    Attributes:
        rows: the rows present of each plate known so far.
        support: where the site's values lie.
        transform: from unconstrained space onto the support; None for the identity.
        mask: which entries count; None for all.
        is_asked: whether the model is just being asked, so that later plates are not known yet.
    """

    rows: Rows
    support: Any
    transform: Transform | None
    mask: torch.Tensor | bool | None = None
    is_asked: bool = False


#: Gives a latent site its value.
Visit: TypeAlias = Callable[[Latent, Spot], torch.Tensor]


def usual_spot(latent: Latent, rows: Rows) -> Spot:
    """A site that is as it was in the first run."""
    return Spot(rows, latent.support, latent.transform)


def renewed(latent: Latent, spot: Spot | None) -> Latent:
    """A site's account, should this call's support or mask not be that of the first run."""
    if spot is None:
        return latent
    bounded = latent.is_bounded or not same_constraint(latent.support, spot.support)
    masked = latent.is_masked or spot.mask is not None
    return replace(latent, is_bounded=bounded, is_masked=masked)


class _Enough(BaseException):
    """Ends a walk; no Exception, so that a model that catches those lets it pass."""


class Walk(Messenger):
    """Answer a model's latent sites with the guide's values; hide everything from outer handlers.

    Args:
        latents: the guide's sites.
        visit: gives their values; called under the handlers outside the walk.
        rows: indices of the plates that the guide draws; those that the model gives are added.
        wanted: names of sites and plates that the walk is made for.
        known: values of sites that other guides have drawn; None where there are no others.
    """

    def __init__(
        self,
        latents: Iterable[Latent],
        visit: Visit,
        rows: Rows,
        wanted: Iterable[str],
        known: Mapping[str, torch.Tensor] | None,
    ) -> None:
        super().__init__(None)
        self.latents = {latent.name: latent for latent in latents}
        self.visit, self.rows, self.wanted, self.known = visit, rows, set(wanted), known

    def process_message(self, message: Message) -> None:
        """Answer the message and keep it from handlers further out."""
        message.stop = True
        name = message.name
        if message.type == "plate":
            if message.value is None:
                message.value = self.rows.get(name)
            else:
                self.rows[name] = message.value
        elif message.type == "sample" and not message.is_observed and name in self.latents:
            with stack.outside(self):
                message.value = self.visit(self.latents[name], self._spot(self.latents[name], message))
        else:
            self._pass_by(message)
            return
        self.wanted.discard(name)
        if not self.wanted:
            raise _Enough

    def _pass_by(self, message: Message) -> None:
        """Give a site of another guide its value.

        Raises:
            GuideError: it has none yet, and a support asked for may depend on it.
        """
        if self.known is None or message.type != "sample" or message.is_observed:
            return
        message.value = self.known.get(message.name)
        asked = [name for name in self.wanted if name in self.latents and self.latents[name].is_bounded]
        if message.value is None and asked and not is_enumerated(message):
            raise GuideError(
                f"guide: expected site '{message.name}' to be drawn before the supports of {sorted(asked)} "
                "are asked for, got it in a later part; append the parts in the model's order"
            )

    def _spot(self, latent: Latent, message: Message) -> Spot:
        support = message.fn.support
        transform = free_transform(support) if latent.is_bounded else latent.transform
        return Spot(self.rows, support, transform, mask_of(message), is_asked=True)


def walk(
    model: Fn,
    latents: Iterable[Latent],
    visit: Visit,
    rows: Rows,
    wanted: Iterable[str],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    known: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Run a model on a guide's values until everything wanted is known.

    ``rows`` then holds the plates that the model subsampled by itself.

    Raises:
        GuideError: a latent site that is wanted does not occur.
    """
    walker = Walk(latents, visit, rows, wanted, known)
    try:
        with stack.restored(), validation_enabled(False), walker:
            model(*args, **kwargs)
    except _Enough:
        pass
    missing = [name for name in walker.wanted if name in walker.latents]
    if missing:
        raise GuideError(
            f"guide: expected the model to reach latent sites {sorted(missing)}, as in its first run, got a "
            "run without them; a guide needs the same sites in every call"
        )
