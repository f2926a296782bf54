"""What draws say about their own quality; pure functions of tensors shaped (chains, draws, *event)."""

from brancher.infer.diagnostics.convergence import gelman_rubin, r_hat, split_gelman_rubin
from brancher.infer.diagnostics.correlation import (
    autocorrelation,
    autocovariance,
    effective_sample_size,
    ess_bulk,
    ess_mean,
    ess_quantile,
    ess_sd,
    ess_tail,
)
from brancher.infer.diagnostics.criteria import LooResult, bfmi, loo, waic
from brancher.infer.diagnostics.intervals import hpdi, pi, quantile
from brancher.infer.diagnostics.mcse import mcse_mean, mcse_quantile, mcse_sd
from brancher.infer.diagnostics.psis import fit_generalized_pareto, psis
from brancher.infer.diagnostics.scores import (
    crps_empirical,
    energy_score_empirical,
    resample,
    weighed_quantile,
)

__all__ = [
    "LooResult",
    "autocorrelation",
    "autocovariance",
    "bfmi",
    "crps_empirical",
    "effective_sample_size",
    "energy_score_empirical",
    "ess_bulk",
    "ess_mean",
    "ess_quantile",
    "ess_sd",
    "ess_tail",
    "fit_generalized_pareto",
    "gelman_rubin",
    "hpdi",
    "loo",
    "mcse_mean",
    "mcse_quantile",
    "mcse_sd",
    "pi",
    "psis",
    "quantile",
    "r_hat",
    "resample",
    "split_gelman_rubin",
    "waic",
    "weighed_quantile",
]
