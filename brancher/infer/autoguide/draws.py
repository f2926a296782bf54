"""One joint draw of a guide's sites, and what it says at each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch.distributions.transforms import Transform

from brancher.distributions import Distribution
from brancher.infer.autoguide.prototype import Latent
from brancher.infer.autoguide.walk import Rows, Spot


class Draws(ABC):
    """A draw of all latent sites, to be had site by site."""

    @abstractmethod
    def value(self, latent: Latent, rows: Rows, transform: Transform | None) -> torch.Tensor:
        """A site's draw, shape lead + B + E for the rows present."""

    @abstractmethod
    def law(self, latent: Latent, spot: Spot) -> Distribution:
        """What the guide says at a site: a law that gives the draw as its value."""


class Starts(Draws):
    """The first values."""

    def value(self, latent: Latent, rows: Rows, transform: Transform | None) -> torch.Tensor:
        """A site's first value."""
        free = latent.rows(latent.free_start, rows, latent.free_dim)
        return free if transform is None else transform(free)

    def law(self, latent: Latent, spot: Spot) -> Distribution:
        """First values have none."""
        raise NotImplementedError
