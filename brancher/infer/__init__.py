"""Inference algorithms."""

from brancher.infer.elbo import ELBO, ELBOModule, Trace_ELBO

__all__ = ["ELBO", "ELBOModule", "Trace_ELBO"]
