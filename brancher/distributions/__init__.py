"""Probability distributions: torch's families with batch and event algebra, and our own.

Constraints, transforms and their registries are here too, so that
``import brancher.distributions as dist`` is all a model needs.
"""

from torch.distributions import ExponentialFamily

from brancher.distributions import constraints, transforms
from brancher.distributions.algebra import ExpandedDistribution, Independent, MaskedDistribution
from brancher.distributions.base import Distribution
from brancher.distributions.bernoulli import Bernoulli, ContinuousBernoulli
from brancher.distributions.beta import Beta, Dirichlet, Kumaraswamy
from brancher.distributions.categorical import (
    Categorical,
    Multinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from brancher.distributions.cauchy import Cauchy, HalfCauchy
from brancher.distributions.constraint_registry import biject_to, transform_to
from brancher.distributions.counts import Binomial, Geometric, NegativeBinomial, Poisson
from brancher.distributions.extreme import Gumbel, Weibull
from brancher.distributions.gamma import Chi2, Exponential, Gamma
from brancher.distributions.kl import kl_divergence, register_kl
from brancher.distributions.laplace import Laplace
from brancher.distributions.lkj import LKJ, LKJCholesky
from brancher.distributions.mixture import MixtureSameFamily
from brancher.distributions.multivariate import (
    LogisticNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
)
from brancher.distributions.normal import HalfNormal, LogNormal, Normal
from brancher.distributions.pareto import GeneralizedPareto, Pareto
from brancher.distributions.relaxed import (
    ExpRelaxedCategorical,
    LogitRelaxedBernoulli,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from brancher.distributions.student_t import FisherSnedecor, StudentT
from brancher.distributions.transformed import TransformedDistribution
from brancher.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CorrCholeskyTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)
from brancher.distributions.uniform import Uniform
from brancher.distributions.validation import enable_validation, is_validating, validation_enabled
from brancher.distributions.von_mises import VonMises
from brancher.distributions.wishart import Wishart

TorchDistribution = Distribution  # the name that Pyro programs use

__all__ = [
    "AbsTransform",
    "AffineTransform",
    "Bernoulli",
    "Beta",
    "Binomial",
    "CatTransform",
    "Categorical",
    "Cauchy",
    "Chi2",
    "ComposeTransform",
    "ContinuousBernoulli",
    "CorrCholeskyTransform",
    "CumulativeDistributionTransform",
    "Dirichlet",
    "Distribution",
    "ExpRelaxedCategorical",
    "ExpTransform",
    "ExpandedDistribution",
    "Exponential",
    "ExponentialFamily",
    "FisherSnedecor",
    "Gamma",
    "GeneralizedPareto",
    "Geometric",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "Independent",
    "IndependentTransform",
    "Kumaraswamy",
    "LKJ",
    "LKJCholesky",
    "Laplace",
    "LogNormal",
    "LogisticNormal",
    "LogitRelaxedBernoulli",
    "LowRankMultivariateNormal",
    "LowerCholeskyTransform",
    "MaskedDistribution",
    "MixtureSameFamily",
    "Multinomial",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "Pareto",
    "Poisson",
    "PositiveDefiniteTransform",
    "PowerTransform",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "ReshapeTransform",
    "SigmoidTransform",
    "SoftmaxTransform",
    "SoftplusTransform",
    "StackTransform",
    "StickBreakingTransform",
    "StudentT",
    "TanhTransform",
    "TorchDistribution",
    "Transform",
    "TransformedDistribution",
    "Uniform",
    "VonMises",
    "Weibull",
    "Wishart",
    "biject_to",
    "constraints",
    "enable_validation",
    "identity_transform",
    "is_validating",
    "kl_divergence",
    "register_kl",
    "transform_to",
    "transforms",
    "validation_enabled",
]
