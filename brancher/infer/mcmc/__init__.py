"""Markov chain Monte Carlo: kernels, and `MCMC` that runs them."""

from brancher.infer.mcmc.bridge import FlatDensity, ModelInfo, initialize_model, log_density
from brancher.infer.mcmc.kernels import HMC, NUTS, ChEES, MCMCKernel, RandomWalk
from brancher.infer.mcmc.mcmc import MCMC

__all__ = [
    "HMC",
    "MCMC",
    "NUTS",
    "ChEES",
    "FlatDensity",
    "MCMCKernel",
    "ModelInfo",
    "RandomWalk",
    "initialize_model",
    "log_density",
]
