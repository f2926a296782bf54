"""Families without pathwise gradients, to test estimators with; under Pyro's names."""

from brancher.distributions import Beta, Dirichlet, Gamma, Normal

__all__ = [
    "NonreparameterizedBeta",
    "NonreparameterizedDirichlet",
    "NonreparameterizedGamma",
    "NonreparameterizedNormal",
]


class NonreparameterizedNormal(Normal):
    """A normal law whose draws carry no gradient."""

    has_rsample = False


class NonreparameterizedBeta(Beta):
    """A beta law whose draws carry no gradient."""

    has_rsample = False


class NonreparameterizedGamma(Gamma):
    """A gamma law whose draws carry no gradient."""

    has_rsample = False


class NonreparameterizedDirichlet(Dirichlet):
    """A Dirichlet law whose draws carry no gradient."""

    has_rsample = False
