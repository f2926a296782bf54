"""Evidence lower bounds."""

from brancher.infer.elbo.elbo import ELBO, ELBOModule
from brancher.infer.elbo.trace_elbo import Trace_ELBO

__all__ = ["ELBO", "ELBOModule", "Trace_ELBO"]
