"""The no-U-turn sampler as an inference method; its draws become the posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from brancher.infer import Predictive, config_enumerate, infer_discrete
from brancher.params import using
from brancher.symbolic.methods import InferenceMethod, Settings, whole_data
from brancher.symbolic.pairs import Pair
from brancher.symbolic.particles import set_points

if TYPE_CHECKING:
    import pandas as pd

    from brancher.infer.mcmc import MCMC
    from brancher.symbolic.models import ProbabilisticModel


class NUTS(InferenceMethod):
    """The no-U-turn sampler; ``number_iterations`` draws a chain.

    Args:
        num_chains: how many chains.
        warmup_steps: draws that adapt; as many as are kept for None.
        **options: of the kernel.

    Attributes:
        mcmc: the run, with its diagnostics, once there is one.
    """

    def __init__(self, num_chains: int = 4, warmup_steps: int | None = None, **options: Any) -> None:
        self.num_chains, self.warmup_steps, self.options = num_chains, warmup_steps, options
        self.mcmc: MCMC | None = None

    def run(self, model: ProbabilisticModel, settings: Settings) -> pd.Series | None:
        from brancher.infer.mcmc import MCMC
        from brancher.infer.mcmc import NUTS as Kernel

        pair = whole_data(model, "NUTS")
        self.mcmc = MCMC(
            Kernel(pair.model, **self.options),
            settings.iterations,
            self.warmup_steps,
            num_chains=self.num_chains,
            compile=settings.compile,
            progress=settings.progress,
        )
        with using(pair.store):
            self.mcmc.run()
            draws = {k: v for k, v in self.mcmc.get_samples().items() if k in pair.latents}
            set_points(model, pair, draws | _summed_out(pair, draws))
        model.diagnostics["mcmc"] = self.mcmc.summary()
        return None


def _summed_out(pair: Pair, draws: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Draws of the discrete variables that a sampler has summed out, given those of the others."""
    names = sorted(pair.latents - draws.keys())
    if not names:
        return {}
    return dict(Predictive(infer_discrete(config_enumerate(pair.model)), dict(draws), return_sites=names)())
