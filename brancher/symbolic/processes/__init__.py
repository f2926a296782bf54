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
from brancher.symbolic.processes.means import ConstantMean, Mean, MeanFunction

__all__ = [
    "ConstantMean",
    "Covariance",
    "CovarianceFunction",
    "ExponentialCovariance",
    "GaussianProcess",
    "HarmonicCovariance",
    "MaternCovariance",
    "Mean",
    "MeanFunction",
    "PeriodicCovariance",
    "ProcessVariable",
    "SquaredExponentialCovariance",
    "WhiteNoiseCovariance",
]
