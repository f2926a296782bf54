"""The posterior that is built for continuous variables: independent normals in unconstrained space."""

from __future__ import annotations

import torch

from brancher.distributions.special import HALF_LOG_2PI
from brancher.infer.autoguide import AutoNormal
from brancher.infer.autoguide.normal import Batch, NormalDraws


class MeanField(AutoNormal):
    """``AutoNormal`` with densities differentiated along draws alone; see :mod:`brancher.symbolic.paths`."""

    def draws(self, lead: torch.Size) -> NormalDraws:
        """Draw all sites at once."""
        return _PathDraws(self.latents, *self.locs_and_scales(), lead, self.rank)


class _PathBatch(Batch):
    def entries(self) -> torch.Tensor:
        """Log-density of every entry in nats: differentiable in the draw, not in what is learned."""
        scale = self.scale.detach()
        return -0.5 * ((self.vector - self.loc.detach()) / scale).square() - (scale.log() + HALF_LOG_2PI)


class _PathDraws(NormalDraws):
    batch = _PathBatch
