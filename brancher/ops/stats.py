"""Statistics of draws; Pyro's name for :mod:`brancher.infer.diagnostics`."""

from brancher.infer.diagnostics import (
    autocorrelation,
    autocovariance,
    effective_sample_size,
    fit_generalized_pareto,
    gelman_rubin,
    hpdi,
    pi,
    quantile,
    split_gelman_rubin,
    waic,
)

__all__ = [
    "autocorrelation",
    "autocovariance",
    "effective_sample_size",
    "fit_generalized_pareto",
    "gelman_rubin",
    "hpdi",
    "pi",
    "quantile",
    "split_gelman_rubin",
    "waic",
]
