"""Random functions and series: Gaussian processes, Markov processes and what is seen of them."""

from brancher.symbolic.processes.covariances import Covariance, CovarianceFunction
from brancher.symbolic.processes.gaussian import GaussianProcess, ProcessVariable
from brancher.symbolic.processes.kernels import (
    ExponentialCovariance,
    HarmonicCovariance,
    MaternCovariance,
    PeriodicCovariance,
    SquaredExponentialCovariance,
    WhiteNoiseCovariance,
)
from brancher.symbolic.processes.latent import LatentTimeSeriesModel
from brancher.symbolic.processes.markov import MarkovProcess
from brancher.symbolic.processes.means import ConstantMean, Mean, MeanFunction
from brancher.symbolic.processes.series import DiscreteTimeSeries, TimeSeries

# Other names, under which programs import them mostly.
TimeSeriesModel = DiscreteTimeSeries
SquaredExponential = SquaredExponentialCovariance
Exponential = ExponentialCovariance
Matern = MaternCovariance
Periodic = PeriodicCovariance
Harmonic = HarmonicCovariance
WhiteNoise = WhiteNoiseCovariance

__all__ = [
    "ConstantMean",
    "Covariance",
    "CovarianceFunction",
    "DiscreteTimeSeries",
    "Exponential",
    "ExponentialCovariance",
    "GaussianProcess",
    "Harmonic",
    "HarmonicCovariance",
    "LatentTimeSeriesModel",
    "MarkovProcess",
    "Matern",
    "MaternCovariance",
    "Mean",
    "MeanFunction",
    "Periodic",
    "PeriodicCovariance",
    "ProcessVariable",
    "SquaredExponential",
    "SquaredExponentialCovariance",
    "TimeSeries",
    "TimeSeriesModel",
    "WhiteNoise",
    "WhiteNoiseCovariance",
]
