"""The base of guides with one joint law for all latent sites."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.distributions.transforms import Transform

from brancher.distributions import Distribution, Normal
from brancher.distributions.shapes import sum_rightmost
from brancher.errors import GuideError
from brancher.infer.autoguide.drawn import point
from brancher.infer.autoguide.draws import Draws
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.normal import log_slope
from brancher.infer.autoguide.points import at_quantiles
from brancher.infer.autoguide.prototype import Latent
from brancher.infer.autoguide.walk import Rows, Spot
from brancher.infer.initialization import Init, init_to_median
from brancher.primitives import sample

Fn = Callable[..., Any]
Tensors = dict[str, torch.Tensor]


class AutoContinuous(AutoGuide):
    """Guide all latent sites by one law on a flat vector in unconstrained space.

    The vector is the auxiliary site ``_<class name>_latent``; each latent site is a part of it,
    sent onto its support, whose density is the Jacobian of that map. Sites of a subsampled plate
    have entries for all rows, of which a call uses those present.

    Args:
        model: the model.
        init_loc_fn: where to start.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.
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

    # What a kind of guide decides

    @abstractmethod
    def declare_law(self, start: torch.Tensor) -> None:
        """Make the parameters of the joint law, which begins around ``start``, shape (n,)."""

    @abstractmethod
    def get_posterior(self, *args: Any, **kwargs: Any) -> Distribution:
        """The joint law in unconstrained space, event shape (n,)."""

    def draw(self, batch_shape: torch.Size) -> Distribution:
        """The joint law for a batch; guides that know the noise behind a draw give that along."""
        law = self.get_posterior()
        return law.expand(batch_shape) if batch_shape else law

    def loc_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Marginal means and standard deviations of the joint law, shape (n,).

        Raises:
            GuideError: the law has no such thing in closed form.
        """
        raise GuideError(
            f"{type(self).__name__}: expected a guide with medians and quantiles in closed form, got one "
            "without; use sample_posterior"
        )

    def _loc_scale(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        # Programs written for Pyro read the moments from here.
        return self.loc_and_scale()

    # What follows

    @property
    def latent_dim(self) -> int:
        """Length n of the flat vector."""
        return sum(latent.free_start.numel() for latent in self.latents)

    def declare(self, latents: tuple[Latent, ...]) -> None:
        """Make the parameters of the joint law."""
        self.declare_law(torch.cat([latent.free_start.reshape(-1) for latent in latents]))

    def draws(self, lead: torch.Size) -> JointDraws:
        """Draw the vector."""
        law = self.draw(self._batch_shape(lead))
        return JointDraws(self.latents, law.rsample() if law.has_rsample else law.sample(), lead, self.rank)

    def issue(self, lead: torch.Size) -> JointDraws:
        """Draw the vector as an auxiliary site."""
        vector = sample(self.latent_name, self.draw(self._batch_shape(lead)), infer={"is_auxiliary": True})
        return JointDraws(self.latents, vector, lead, self.rank)

    @property
    def latent_name(self) -> str:
        """Name of the auxiliary site."""
        return f"_{self._name if self._is_part else self.prefix}_latent"

    def _batch_shape(self, lead: torch.Size) -> torch.Size:
        return torch.Size((*lead, *(1,) * self.rank)) if lead else lead

    def get_base_dist(self) -> Distribution:
        """Independent standard normals, event shape (n,)."""
        zero = self.latents[0].free_start.new_zeros(self.latent_dim)
        return Normal(zero, torch.ones_like(zero), validate_args=False).to_event(1)

    def by_site(self, vector: torch.Tensor) -> Tensors:
        """Cut a flat vector into the unconstrained values of the sites, all rows."""
        draws = JointDraws(self.latents, vector, torch.Size(), self.rank)
        return {latent.name: draws.free(latent, {}) for latent in self.latents}

    def sample_latent(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """A draw of the flat vector, shape (n,)."""
        self.setup(*args, **kwargs)
        law = self.get_posterior()
        return law.rsample() if law.has_rsample else law.sample()

    @torch.no_grad()
    def median(self, *args: Any, **kwargs: Any) -> Tensors:
        """The median of every latent site, by name, shape B + E, all rows of every plate.

        For a site of several dependent entries, such as a simplex, the image of the median in
        unconstrained space.
        """
        self.setup(*args, **kwargs)
        loc, _ = self.loc_and_scale()
        # A copy: later steps must not change what was asked for now.
        return self.constrained(JointDraws(self.latents, loc.clone(), torch.Size(), self.rank), args, kwargs)

    @torch.no_grad()
    def quantiles(
        self, quantiles: float | Sequence[float] | torch.Tensor, *args: Any, **kwargs: Any
    ) -> Tensors:
        """Marginal quantiles of every latent site, by name; several stand in a dimension on the left."""
        self.setup(*args, **kwargs)
        loc, scale = self.loc_and_scale()
        return at_quantiles(self, self.by_site(loc), self.by_site(scale), quantiles, args, kwargs)


class JointDraws(Draws):
    """A flat vector, cut into sites.

    Args:
        latents: the sites.
        vector: shape (n,), or lead + (1,) * rank + (n,).
        lead: batch dimensions on the left.
        rank: batch dimensions that sites use.
    """

    def __init__(
        self, latents: tuple[Latent, ...], vector: torch.Tensor, lead: torch.Size, rank: int
    ) -> None:
        self.lead, self.rank = lead, rank
        sizes = [latent.free_start.numel() for latent in latents]
        parts = vector.split(sizes, -1)
        self.parts = {latent.name: part for latent, part in zip(latents, parts, strict=True)}

    def free(self, latent: Latent, rows: Rows) -> torch.Tensor:
        """A site's part of the vector, for the rows present."""
        own = latent.batch_shape + latent.free_shape
        padding = (1,) * (self.rank - len(latent.batch_shape)) if self.lead else ()
        part = self.parts[latent.name].reshape(self.lead + padding + own)
        return latent.rows(part.to(latent.free_start.dtype), rows, latent.free_dim)

    def value(self, latent: Latent, rows: Rows, transform: Transform | None) -> torch.Tensor:
        """A site's draw on its support."""
        free = self.free(latent, rows)
        return free if transform is None else transform(free)

    def law(self, latent: Latent, spot: Spot) -> Distribution:
        """The point that the vector says, with the Jacobian of the way there as density."""
        free, transform = self.free(latent, spot.rows), spot.transform
        value = free if transform is None else transform(free)
        density = None if transform is None else -log_slope(latent, free, value, transform)
        if spot.mask is not None:
            # Entries that count for nothing would let the joint law widen for ever: they get the
            # standard normal as their model, by leaving its density out of the guide's.
            standard = sum_rightmost(Normal(0.0, 1.0, validate_args=False).log_prob(free), latent.free_dim)
            mask = torch.as_tensor(spot.mask, device=free.device)
            density = torch.where(mask, 0.0 if density is None else density, -standard)
        return point(value, latent.event_dim, density)
