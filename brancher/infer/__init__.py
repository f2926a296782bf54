"""Inference algorithms."""

from brancher.infer.elbo import ELBO, ELBOModule, Trace_ELBO, TraceMeanField_ELBO

__all__ = ["ELBO", "ELBOModule", "TraceMeanField_ELBO", "Trace_ELBO"]
