"""Pictures of draws and losses, by seaborn. Each returns its axes or grid and shows nothing.

The style holds while a picture is made; matplotlib's settings stay as they were.
"""

from brancher.plots.loss import plot_loss
from brancher.plots.posterior import plot_forest, plot_pair, plot_posterior
from brancher.plots.predictive import plot_ppc

__all__ = ["plot_forest", "plot_loss", "plot_pair", "plot_posterior", "plot_ppc"]
