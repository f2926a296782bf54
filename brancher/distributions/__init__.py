"""Probability distributions: torch's families with batch and event algebra, and our own.

Constraints, transforms and their registries are here too, so that
``import brancher.distributions as dist`` is all a model needs.
"""

from typing import TYPE_CHECKING

from torch.distributions import ExponentialFamily

from brancher.absent import refuse
from brancher.distributions import constraints, transforms
from brancher.distributions import kl_own as kl_own  # registers
from brancher.distributions import kl_shapes as kl_shapes  # registers
from brancher.distributions.affine_beta import AffineBeta
from brancher.distributions.algebra import ExpandedDistribution, Independent, MaskedDistribution
from brancher.distributions.asymmetric_laplace import AsymmetricLaplace, SoftAsymmetricLaplace
from brancher.distributions.base import Distribution
from brancher.distributions.bernoulli import Bernoulli, ContinuousBernoulli
from brancher.distributions.beta import Beta, Dirichlet, Kumaraswamy
from brancher.distributions.beta_binomial import BetaBinomial
from brancher.distributions.categorical import (
    Categorical,
    Multinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from brancher.distributions.cauchy import Cauchy, HalfCauchy
from brancher.distributions.conditional import ConditionalDistribution, ConditionalTransformedDistribution
from brancher.distributions.constraint_registry import biject_to, transform_to
from brancher.distributions.counts import Binomial, Geometric, NegativeBinomial, Poisson
from brancher.distributions.delta import Delta
from brancher.distributions.dirichlet_multinomial import DirichletMultinomial
from brancher.distributions.discrete_uniform import DiscreteUniform
from brancher.distributions.empirical import Empirical
from brancher.distributions.extended import ExtendedBetaBinomial, ExtendedBinomial
from brancher.distributions.extreme import Gumbel, Weibull
from brancher.distributions.folded import FoldedDistribution
from brancher.distributions.gamma import Chi2, Exponential, Gamma
from brancher.distributions.gamma_poisson import GammaPoisson
from brancher.distributions.hmm import DiscreteHMM, GaussianHMM
from brancher.distributions.improper_uniform import ImproperUniform
from brancher.distributions.inverse_gamma import InverseGamma
from brancher.distributions.inverse_gaussian import InverseGaussian
from brancher.distributions.kl import kl_divergence, register_kl
from brancher.distributions.laplace import Laplace
from brancher.distributions.lkj import LKJ, LKJCholesky
from brancher.distributions.log_normal_negative_binomial import LogNormalNegativeBinomial
from brancher.distributions.logistic import Logistic, SkewLogistic
from brancher.distributions.logit_normal import LogitNormal
from brancher.distributions.masked_mixture import MaskedMixture
from brancher.distributions.mixture import MixtureSameFamily
from brancher.distributions.mixture_of_normals import (
    GaussianScaleMixture,
    MixtureOfDiagNormals,
    MixtureOfDiagNormalsSharedCovariance,
)
from brancher.distributions.multivariate import (
    LogisticNormal,
    LowRankMultivariateNormal,
    MultivariateNormal,
)
from brancher.distributions.multivariate_student_t import MultivariateStudentT
from brancher.distributions.nan_masked import NanMaskedMultivariateNormal, NanMaskedNormal
from brancher.distributions.normal import HalfNormal, LogNormal, Normal
from brancher.distributions.ordered_logistic import OrderedLogistic
from brancher.distributions.pareto import GeneralizedPareto, Pareto
from brancher.distributions.projected_normal import ProjectedNormal
from brancher.distributions.relaxed import (
    ExpRelaxedCategorical,
    LogitRelaxedBernoulli,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)
from brancher.distributions.soft_laplace import SoftLaplace
from brancher.distributions.straight_through import (
    RelaxedBernoulliStraightThrough,
    RelaxedOneHotCategoricalStraightThrough,
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
from brancher.distributions.truncated import TruncatedDistribution
from brancher.distributions.truncated_normal import TruncatedNormal
from brancher.distributions.uniform import Uniform
from brancher.distributions.unit import Unit
from brancher.distributions.validation import enable_validation, is_validating, validation_enabled
from brancher.distributions.von_mises import VonMises
from brancher.distributions.von_mises_3d import VonMises3D
from brancher.distributions.wishart import Wishart
from brancher.distributions.zero_inflated import (
    ZeroInflatedDistribution,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)

# the names that Pyro programs use
TorchDistribution = Distribution
is_validation_enabled = is_validating

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

__all__ = [
    "AbsTransform",
    "AffineBeta",
    "AffineTransform",
    "AsymmetricLaplace",
    "Bernoulli",
    "Beta",
    "BetaBinomial",
    "Binomial",
    "CatTransform",
    "Categorical",
    "Cauchy",
    "Chi2",
    "ComposeTransform",
    "ConditionalDistribution",
    "ConditionalTransformedDistribution",
    "ContinuousBernoulli",
    "CorrCholeskyTransform",
    "CumulativeDistributionTransform",
    "Delta",
    "Dirichlet",
    "DirichletMultinomial",
    "DiscreteHMM",
    "DiscreteUniform",
    "Distribution",
    "Empirical",
    "ExpRelaxedCategorical",
    "ExpTransform",
    "ExpandedDistribution",
    "Exponential",
    "ExponentialFamily",
    "ExtendedBetaBinomial",
    "ExtendedBinomial",
    "FisherSnedecor",
    "FoldedDistribution",
    "Gamma",
    "GammaPoisson",
    "GaussianHMM",
    "GaussianScaleMixture",
    "GeneralizedPareto",
    "Geometric",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "ImproperUniform",
    "Independent",
    "IndependentTransform",
    "InverseGamma",
    "InverseGaussian",
    "Kumaraswamy",
    "LKJ",
    "LKJCholesky",
    "Laplace",
    "LogNormal",
    "LogNormalNegativeBinomial",
    "Logistic",
    "LogisticNormal",
    "LogitNormal",
    "LogitRelaxedBernoulli",
    "LowRankMultivariateNormal",
    "LowerCholeskyTransform",
    "MaskedDistribution",
    "MaskedMixture",
    "MixtureOfDiagNormals",
    "MixtureOfDiagNormalsSharedCovariance",
    "MixtureSameFamily",
    "Multinomial",
    "MultivariateNormal",
    "MultivariateStudentT",
    "NanMaskedMultivariateNormal",
    "NanMaskedNormal",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "OrderedLogistic",
    "Pareto",
    "Poisson",
    "PositiveDefiniteTransform",
    "PowerTransform",
    "ProjectedNormal",
    "RelaxedBernoulli",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategorical",
    "RelaxedOneHotCategoricalStraightThrough",
    "ReshapeTransform",
    "SigmoidTransform",
    "SkewLogistic",
    "SoftAsymmetricLaplace",
    "SoftLaplace",
    "SoftmaxTransform",
    "SoftplusTransform",
    "StackTransform",
    "StickBreakingTransform",
    "StudentT",
    "TanhTransform",
    "TorchDistribution",
    "Transform",
    "TransformedDistribution",
    "TruncatedDistribution",
    "TruncatedNormal",
    "Uniform",
    "Unit",
    "VonMises",
    "VonMises3D",
    "Weibull",
    "Wishart",
    "ZeroInflatedDistribution",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "biject_to",
    "constraints",
    "enable_validation",
    "identity_transform",
    "is_validating",
    "is_validation_enabled",
    "kl_divergence",
    "register_kl",
    "transform_to",
    "transforms",
    "validation_enabled",
]
