"""Inference algorithms."""

from typing import TYPE_CHECKING

from brancher.absent import refuse
from brancher.distributions.validation import enable_validation
from brancher.infer import autoguide, reparam
from brancher.infer.dependencies import get_dependencies
from brancher.infer.elbo import (
    ELBO,
    ELBOModule,
    EnergyDistance,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    Trace_MMD,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)
from brancher.infer.enumeration import config_enumerate, infer_discrete
from brancher.infer.export import export
from brancher.infer.importance import Importance
from brancher.infer.initialization import (
    init_to_draw,
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)
from brancher.infer.log_likelihood import log_likelihood
from brancher.infer.marginal import EmpiricalMarginal
from brancher.infer.mcmc import (
    HMC,
    MCMC,
    NUTS,
    SBC,
    ChEES,
    FlatDensity,
    Pathfinder,
    RandomWalk,
    initialize_model,
    log_density,
)
from brancher.infer.model_comparison import accuracy_table, compare_models, pointwise_table
from brancher.infer.predictive import Predictive
from brancher.infer.resampling import MHResampler
from brancher.infer.samples import Samples, summary
from brancher.infer.smcfilter import SMCFilter
from brancher.infer.svgd import SVGD, IMQSteinKernel, RBFSteinKernel
from brancher.infer.svi import SVI
from brancher.infer.weighed_predictive import WeighedPredictive, WeighedPredictiveResults

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "ChEES",
    "ELBO",
    "ELBOModule",
    "EmpiricalMarginal",
    "EnergyDistance",
    "FlatDensity",
    "HMC",
    "IMQSteinKernel",
    "Importance",
    "JitTraceEnum_ELBO",
    "JitTraceGraph_ELBO",
    "JitTraceMeanField_ELBO",
    "JitTrace_ELBO",
    "MCMC",
    "MHResampler",
    "NUTS",
    "Pathfinder",
    "Predictive",
    "RBFSteinKernel",
    "RandomWalk",
    "RenyiELBO",
    "ReweightedWakeSleep",
    "SBC",
    "SMCFilter",
    "SVGD",
    "SVI",
    "Samples",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "TraceTMC_ELBO",
    "TraceTailAdaptive_ELBO",
    "Trace_ELBO",
    "Trace_MMD",
    "WeighedPredictive",
    "WeighedPredictiveResults",
    "accuracy_table",
    "autoguide",
    "compare_models",
    "config_enumerate",
    "enable_validation",
    "export",
    "get_dependencies",
    "infer_discrete",
    "init_to_draw",
    "init_to_feasible",
    "init_to_generated",
    "init_to_mean",
    "init_to_median",
    "init_to_sample",
    "init_to_uniform",
    "init_to_value",
    "initialize_model",
    "log_density",
    "log_likelihood",
    "pointwise_table",
    "reparam",
    "summary",
]
