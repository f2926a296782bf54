"""``AutoDelta``: a point for every latent site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions import transform_to
from torch.distributions.transforms import Transform

from brancher.distributions import Distribution
from brancher.errors import GuideError
from brancher.infer.autoguide.drawn import point
from brancher.infer.autoguide.draws import Draws
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.prototype import Latent
from brancher.infer.autoguide.walk import Rows, Spot
from brancher.infer.initialization import Init, init_to_median

Fn = Callable[..., Any]


class AutoDelta(AutoGuide):
    """Guide each latent site by a point: maximum a posteriori inference.

    The density that is maximised is the model's own, in constrained space, without a Jacobian. For a model
    that has parameters alone, that is maximum likelihood.

    Parameters are ``AutoDelta.<site>``, of the site's shape and on its support. Where that
    support depends on the call (``Uniform(0, a)``), the parameter is the unconstrained point.

    Args:
        model: the model.
        init_loc_fn: where to start.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Example:
        >>> from brancher.infer.autoguide import AutoDelta
        >>> from brancher.infer import init_to_mean
        >>> guide = AutoDelta(lambda: sample("x", dist.Gamma(2.0, 1.0)), init_loc_fn=init_to_mean)
        >>> guide()
        {'x': tensor(2., grad_fn=...)}
    """

    def __init__(
        self,
        model: Fn,
        init_loc_fn: Init = init_to_median,
        *,
        create_plates: Fn | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(model, init_loc_fn, create_plates=create_plates, prefix=prefix)

    def declare(self, latents: tuple[Latent, ...]) -> None:
        """Make a point for every site."""
        for latent in latents:
            if latent.is_bounded:
                self.hold(latent.name, latent.free_start)
            else:
                _check_mapped(latent)
                self.hold(latent.name, latent.start, latent.support)

    def draws(self, lead: torch.Size) -> DeltaDraws:
        """The points, the same for every entry of ``lead``."""
        places = self.all_places()
        points = {latent.name: self.read(latent.name) for latent in self.latents}
        moving = frozenset(x.name for x in self.latents if x.is_bounded)
        for name in moving:
            if places[name].transform is not None:
                raise GuideError(
                    f"AutoDelta: expected the support of site '{name}' as in the first run, got another "
                    "one; bound it with tensors, or make a new guide for these arguments"
                )
        return DeltaDraws(points, moving, lead, self.rank)

    def asks(self, latent: Latent) -> bool:
        """Only about moving supports: a point has no density that a mask could leave out."""
        return latent.is_bounded

    @torch.no_grad()
    def median(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The point of every latent site, by name, shape B + E, all rows of every plate."""
        self.setup(*args, **kwargs)
        points = self.constrained(self.draws(torch.Size()), args, kwargs)
        return {name: point.clone() for name, point in points.items()}  # later steps must not change them


class DeltaDraws(Draws):
    """Points by site.

    Args:
        points: all rows; constrained, except where ``free`` names the site.
        free: sites whose point is unconstrained.
        lead: batch dimensions on the left.
        rank: batch dimensions that sites use.
    """

    def __init__(
        self, points: dict[str, torch.Tensor], free: frozenset[str], lead: torch.Size, rank: int
    ) -> None:
        self.points, self.free, self.lead, self.rank = points, free, lead, rank

    def value(self, latent: Latent, rows: Rows, transform: Transform | None) -> torch.Tensor:
        """A site's point for the rows present."""
        point = self.points[latent.name]
        if latent.name not in self.free:
            return self._led(latent, latent.rows(point, rows, latent.event_dim))
        free = latent.rows(point, rows, latent.free_dim)
        return self._led(latent, free if transform is None else transform(free))

    def _led(self, latent: Latent, point: torch.Tensor) -> torch.Tensor:
        padding = self.rank + latent.event_dim - point.dim()
        if not self.lead or padding < 0:  # bounds that were drawn have brought the dimensions along
            return point
        return point.expand(*self.lead, *(1,) * padding, *point.shape)

    def law(self, latent: Latent, spot: Spot) -> Distribution:
        """All mass on the point."""
        value = self.value(latent, spot.rows, spot.transform)
        return point(value, latent.event_dim)


def _check_mapped(latent: Latent) -> None:
    try:
        transform_to(latent.support)
    except NotImplementedError:
        raise GuideError(
            f"AutoDelta: expected a support with a transform from the reals at site '{latent.name}', got "
            f"{latent.support}; register one with brancher.distributions.transform_to.register"
        ) from None
