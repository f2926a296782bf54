"""``AutoDiagonalNormal``: independent normals on the flat vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions.transforms import AffineTransform, Transform

from brancher.distributions import Distribution, Normal, constraints
from brancher.infer.autoguide.affine import drawn_from_noise, noise_like
from brancher.infer.autoguide.continuous import AutoContinuous
from brancher.infer.autoguide.normal import positive_scale
from brancher.infer.initialization import Init, init_to_median

Fn = Callable[..., Any]


class AutoDiagonalNormal(AutoContinuous):
    """Guide all latent sites by independent normals on one flat unconstrained vector.

    The same family as :class:`AutoNormal`, with two parameters in all:
    ``AutoDiagonalNormal.loc`` and ``AutoDiagonalNormal.scale``, shape (n,).

    Args:
        model: the model.
        init_loc_fn: where to start.
        init_scale: first standard deviation in unconstrained space; > 0.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Example:
        >>> from brancher.infer.autoguide import AutoDiagonalNormal
        >>> guide = AutoDiagonalNormal(lambda: sample("x", dist.Gamma(2.0, 1.0)))
        >>> guide.setup().get_posterior().event_shape
        torch.Size([1])
    """

    def __init__(
        self,
        model: Fn,
        init_loc_fn: Init = init_to_median,
        init_scale: float = 0.1,
        *,
        create_plates: Fn | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(model, init_loc_fn, create_plates=create_plates, prefix=prefix)
        self.init_scale = positive_scale(self, init_scale)

    def declare_law(self, start: torch.Tensor) -> None:
        """Make location and scale."""
        self.hold("loc", start)
        self.hold("scale", torch.full_like(start, self.init_scale), constraints.positive)

    def loc_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The parameters."""
        return self.read("loc"), self.read("scale")

    def get_posterior(self, *args: Any, **kwargs: Any) -> Distribution:
        """Independent normals, event shape (n,)."""
        return _normal(*self.loc_and_scale())

    def get_transform(self, *args: Any, **kwargs: Any) -> Transform:
        """From a standard normal vector to the posterior's."""
        return AffineTransform(*self.loc_and_scale(), event_dim=1)

    def draw(self, batch_shape: torch.Size) -> Distribution:
        """The law with a draw whose noise is known."""
        loc, scale = self.loc_and_scale()
        noise = noise_like(loc, batch_shape)
        vector = torch.addcmul(loc, noise, scale)
        return drawn_from_noise(noise, vector, lambda: scale.log().sum(), lambda: _normal(loc, scale))


def _normal(loc: torch.Tensor, scale: torch.Tensor) -> Distribution:
    return Normal(loc, scale, validate_args=False).to_event(1)
