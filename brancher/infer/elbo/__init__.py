"""Evidence lower bounds."""

from brancher.infer.elbo.compiled import (
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
)
from brancher.infer.elbo.elbo import ELBO, ELBOModule
from brancher.infer.elbo.energy_distance import EnergyDistance
from brancher.infer.elbo.enum import TraceEnum_ELBO
from brancher.infer.elbo.graph import TraceGraph_ELBO
from brancher.infer.elbo.mean_field import TraceMeanField_ELBO
from brancher.infer.elbo.mmd import Trace_MMD
from brancher.infer.elbo.renyi import RenyiELBO
from brancher.infer.elbo.tail_adaptive import TraceTailAdaptive_ELBO
from brancher.infer.elbo.tmc import TraceTMC_ELBO
from brancher.infer.elbo.trace_elbo import Trace_ELBO
from brancher.infer.elbo.wake_sleep import ReweightedWakeSleep

__all__ = [
    "ELBO",
    "ELBOModule",
    "EnergyDistance",
    "JitTraceEnum_ELBO",
    "JitTraceGraph_ELBO",
    "JitTraceMeanField_ELBO",
    "JitTrace_ELBO",
    "RenyiELBO",
    "ReweightedWakeSleep",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "TraceTMC_ELBO",
    "TraceTailAdaptive_ELBO",
    "Trace_ELBO",
    "Trace_MMD",
]
