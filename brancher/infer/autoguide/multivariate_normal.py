"""``AutoMultivariateNormal``: a normal law with full covariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions.transforms import Transform

from brancher.distributions import Distribution, MultivariateNormal, constraints, transforms
from brancher.infer.autoguide.affine import drawn_from_noise, noise_like
from brancher.infer.autoguide.continuous import AutoContinuous
from brancher.infer.autoguide.normal import positive_scale
from brancher.infer.initialization import Init, init_to_median

Fn = Callable[..., Any]


class AutoMultivariateNormal(AutoContinuous):
    """Guide all latent sites by one normal law with full covariance in unconstrained space.

    The Cholesky factor is ``scale[:, None] * scale_tril`` with a unit diagonal in ``scale_tril``,
    so that correlations are learned on their own scale. Parameters:
    ``AutoMultivariateNormal.loc``, ``.scale`` of shape (n,), ``.scale_tril`` of shape (n, n).

    Args:
        model: the model.
        init_loc_fn: where to start.
        init_scale: first standard deviation in unconstrained space; > 0.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Example:
        >>> from brancher.infer.autoguide import AutoMultivariateNormal
        >>> guide = AutoMultivariateNormal(lambda: sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1)))
        >>> guide.setup().get_posterior().covariance_matrix
        tensor([[0.0100, 0.0000],
                [0.0000, 0.0100]], grad_fn=...)
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
        """Make location, scale and correlations."""
        self.hold("loc", start)
        self.hold("scale", torch.full_like(start, self.init_scale), constraints.positive)
        identity = torch.eye(len(start), dtype=start.dtype, device=start.device)
        self.hold("scale_tril", identity, constraints.unit_lower_cholesky)

    def set_law(self, loc: torch.Tensor, scale: torch.Tensor, scale_tril: torch.Tensor) -> None:
        """Give the parameters other values."""
        self.hold("loc", loc)
        self.hold("scale", scale, constraints.positive)
        self.hold("scale_tril", scale_tril, constraints.unit_lower_cholesky)
        self.forget_caches()

    def _read_all(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loc, scale = self.read("loc"), self.read("scale")
        return loc, scale, scale.unsqueeze(-1) * self.read("scale_tril")

    def get_posterior(self, *args: Any, **kwargs: Any) -> Distribution:
        """The normal law, event shape (n,)."""
        loc, _, tril = self._read_all()
        return MultivariateNormal(loc, scale_tril=tril, validate_args=False)

    def get_transform(self, *args: Any, **kwargs: Any) -> Transform:
        """From a standard normal vector to the posterior's."""
        loc, _, tril = self._read_all()
        return transforms.LowerCholeskyAffine(loc, tril)

    def loc_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Marginal means and standard deviations."""
        loc, _, tril = self._read_all()
        return loc, torch.linalg.vector_norm(tril, dim=-1)

    def draw(self, batch_shape: torch.Size) -> Distribution:
        """The law with a draw whose noise is known: its density needs no triangular solve."""
        loc, scale, tril = self._read_all()
        noise = noise_like(loc, batch_shape)
        return drawn_from_noise(
            noise,
            loc + noise @ tril.mT,
            lambda: scale.log().sum(),
            lambda: MultivariateNormal(loc, scale_tril=tril, validate_args=False),
        )
