"""Markov chain Monte Carlo: kernels, and `MCMC` that runs them."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.infer.mcmc.bridge import FlatDensity, ModelInfo, initialize_model, log_density
from brancher.infer.mcmc.calibration import SBC
from brancher.infer.mcmc.kernels import HMC, NUTS, ChEES, MCMCKernel, RandomWalk
from brancher.infer.mcmc.mcmc import MCMC
from brancher.infer.mcmc.pathfinder import Pathfinder

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "HMC",
    "MCMC",
    "NUTS",
    "SBC",
    "ChEES",
    "FlatDensity",
    "MCMCKernel",
    "ModelInfo",
    "Pathfinder",
    "RandomWalk",
    "initialize_model",
    "log_density",
]
