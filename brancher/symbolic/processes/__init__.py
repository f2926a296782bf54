"""Random functions and series: Gaussian processes, Markov processes and what is seen of them."""

from brancher.symbolic.processes.covariances import (
    Covariance,
    CovarianceFunction,
    ExponentialCovariance,
    HarmonicCovariance,
    MaternCovariance,
    PeriodicCovariance,
    SquaredExponentialCovariance,
    WhiteNoiseCovariance,
)
from brancher.symbolic.processes.gaussian import GaussianProcess, ProcessVariable
from brancher.symbolic.processes.latent import LatentTimeSeriesModel
from brancher.symbolic.processes.markov import MarkovProcess
from brancher.symbolic.processes.means import ConstantMean, Mean, MeanFunction
from brancher.symbolic.processes.series import DiscreteTimeSeries, TimeSeries

__all__ = [
    "ConstantMean",
    "Covariance",
    "CovarianceFunction",
    "DiscreteTimeSeries",
    "ExponentialCovariance",
    "GaussianProcess",
    "HarmonicCovariance",
    "LatentTimeSeriesModel",
    "MarkovProcess",
    "MaternCovariance",
    "Mean",
    "MeanFunction",
    "PeriodicCovariance",
    "ProcessVariable",
    "SquaredExponentialCovariance",
    "TimeSeries",
    "WhiteNoiseCovariance",
]
