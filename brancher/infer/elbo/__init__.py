"""Evidence lower bounds."""

from brancher.infer.elbo.elbo import ELBO, ELBOModule
from brancher.infer.elbo.mean_field import TraceMeanField_ELBO
from brancher.infer.elbo.trace_elbo import Trace_ELBO

__all__ = ["ELBO", "ELBOModule", "TraceMeanField_ELBO", "Trace_ELBO"]
