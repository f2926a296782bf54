"""``AutoLowRankMultivariateNormal``: a normal law with a diagonal plus a few common factors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from brancher.distributions import Distribution, LowRankMultivariateNormal, constraints
from brancher.errors import GuideError
from brancher.infer.autoguide.continuous import AutoContinuous
from brancher.infer.autoguide.normal import positive_scale
from brancher.infer.initialization import Init, init_to_median

Fn = Callable[..., Any]


class AutoLowRankMultivariateNormal(AutoContinuous):
    """Guide all latent sites by a normal law with covariance ``S (I + F F^T) S``, S diagonal.

    Parameters: ``AutoLowRankMultivariateNormal.loc``, ``.scale`` (the diagonal of S) of shape (n,)
    and ``.cov_factor`` (F) of shape (n, rank). Costs n * rank instead of n squared.

    Args:
        model: the model.
        init_loc_fn: where to start.
        init_scale: first standard deviation in unconstrained space; > 0.
        rank: number of factors, > 0; None for the root of n.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Raises:
        GuideError: ``init_scale`` or ``rank`` is not positive.

    Example:
        >>> from brancher.infer.autoguide import AutoLowRankMultivariateNormal
        >>> model = lambda: sample("x", dist.Normal(torch.zeros(9), 1.0).to_event(1))
        >>> AutoLowRankMultivariateNormal(model).setup().cov_factor.shape
        torch.Size([9, 3])
    """

    def __init__(
        self,
        model: Fn,
        init_loc_fn: Init = init_to_median,
        init_scale: float = 0.1,
        rank: int | None = None,
        *,
        create_plates: Fn | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(model, init_loc_fn, create_plates=create_plates, prefix=prefix)
        self.init_scale = positive_scale(self, init_scale)
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
            raise GuideError(
                f"AutoLowRankMultivariateNormal: expected rank as an int > 0 or None, got {rank!r}; "
                "about the root of the number of latent entries is usual"
            )
        self.num_factors = rank

    def declare_law(self, start: torch.Tensor) -> None:
        """Make location, scale and factors; half of the first variance is the factors'."""
        factors = self.num_factors or max(1, round(math.sqrt(len(start))))
        shape = (len(start), factors)
        self.hold("loc", start)
        self.hold("scale", torch.full_like(start, self.init_scale * math.sqrt(0.5)), constraints.positive)
        # Equal factors would stay equal for ever: they begin at random.
        noise = torch.empty(shape, dtype=start.dtype, device=start.device).normal_()
        self.hold("cov_factor", noise / math.sqrt(factors))

    def _read_all(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loc, scale = self.read("loc"), self.read("scale")
        return loc, scale, scale.unsqueeze(-1) * self.read("cov_factor")

    def get_posterior(self, *args: Any, **kwargs: Any) -> Distribution:
        """The normal law, event shape (n,)."""
        loc, scale, factor = self._read_all()
        return LowRankMultivariateNormal(loc, factor, scale * scale, validate_args=False)

    def loc_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Marginal means and standard deviations."""
        loc, scale, factor = self._read_all()
        return loc, (scale * scale + (factor * factor).sum(-1)).sqrt()
