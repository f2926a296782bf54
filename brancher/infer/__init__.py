"""Inference algorithms."""

from brancher.infer.elbo import ELBO, ELBOModule, Trace_ELBO, TraceMeanField_ELBO
from brancher.infer.importance import Importance
from brancher.infer.log_likelihood import log_likelihood
from brancher.infer.predictive import Predictive
from brancher.infer.samples import Samples, summary
from brancher.infer.svi import SVI

__all__ = [
    "ELBO",
    "ELBOModule",
    "Importance",
    "Predictive",
    "SVI",
    "Samples",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
    "log_likelihood",
    "summary",
]
