"""Pictures of draws and losses, by seaborn. Each returns its axes or grid and shows nothing.

The style holds while a picture is made; matplotlib's settings stay as they were.
"""

from brancher.plots.chains import plot_energy, plot_rank, plot_trace
from brancher.plots.loss import plot_loss
from brancher.plots.mixtures import ensemble_histogram, plot_particles
from brancher.plots.models import plot_density, plot_multiple_samples, plot_posterior_histogram
from brancher.plots.posterior import plot_forest, plot_pair, plot_posterior
from brancher.plots.predictive import plot_ppc
from brancher.plots.timeseries import plot_timeseries

__all__ = [
    "ensemble_histogram",
    "plot_density",
    "plot_energy",
    "plot_forest",
    "plot_loss",
    "plot_multiple_samples",
    "plot_pair",
    "plot_particles",
    "plot_posterior",
    "plot_posterior_histogram",
    "plot_ppc",
    "plot_rank",
    "plot_timeseries",
    "plot_trace",
]
