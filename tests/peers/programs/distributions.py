"""Families, their algebra, transforms and divergences."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints, transforms
from torch.distributions import biject_to, kl_divergence, transform_to

T = torch.tensor
EYE = torch.eye(2)


def shown(law, value):
    """Shapes and the log-density."""
    return law.batch_shape, law.event_shape, law.log_prob(value), law.sample((2,)).shape


def case_families_on_the_line():
    laws = [
        dist.Normal(0.5, 2.0),
        dist.Cauchy(0.0, 2.0),
        dist.StudentT(3.0, 0.5, 2.0),
        dist.Laplace(0.5, 2.0),
        dist.AsymmetricLaplace(0.5, 2.0, 1.5),
        dist.SoftAsymmetricLaplace(0.5, 2.0, 1.5, 0.7),
        dist.SoftLaplace(0.5, 2.0),
        dist.Logistic(0.5, 2.0),
        dist.SkewLogistic(0.5, 2.0, 1.5),
        dist.Gumbel(1.0, 2.0),
        dist.VonMises(0.5, 3.0),
        dist.MixtureSameFamily(dist.Categorical(T([0.4, 0.6])), dist.Normal(T([0.0, 1.0]), 1.0)),
    ]
    return [shown(law, T(0.3)) for law in laws]


def case_families_on_the_half_line():
    laws = [
        dist.LogNormal(0.5, 2.0),
        dist.Gamma(2.0, 3.0),
        dist.Exponential(2.0),
        dist.HalfCauchy(2.0),
        dist.HalfNormal(2.0),
        dist.Weibull(1.0, 2.0),
        dist.InverseGamma(2.0, 3.0),
        dist.Chi2(2.0),
        dist.FisherSnedecor(2.0, 3.0),
        dist.Pareto(1.0, 2.0),
        dist.FoldedDistribution(dist.Normal(0.0, 1.0)),
    ]
    return [shown(law, T(1.3)) for law in laws]


def case_families_on_intervals():
    laws = [
        dist.Uniform(-1.0, 2.0),
        dist.Beta(2.0, 3.0),
        dist.Kumaraswamy(1.5, 2.0),
        dist.ContinuousBernoulli(0.3),
        dist.RelaxedBernoulli(T(0.5), T(0.3)),
        dist.AffineBeta(2.0, 3.0, 0.0, 2.0),
    ]
    return [shown(law, T(0.4)) for law in laws]


def case_families_of_counts():
    laws = [
        dist.Binomial(5, 0.3),
        dist.Poisson(2.0),
        dist.Geometric(0.3),
        dist.NegativeBinomial(3.0, 0.3),
        dist.GammaPoisson(3.0, 0.3),
        dist.BetaBinomial(3.0, 0.3, 5),
        dist.ZeroInflatedPoisson(T(2.0), gate=T(0.3)),
        dist.ZeroInflatedNegativeBinomial(T(2.0), probs=T(0.3), gate=T(0.3)),
        dist.ExtendedBinomial(T(5.0), probs=T(0.3)),
        dist.ExtendedBetaBinomial(T(3.0), T(0.3), T(5)),
    ]
    return [shown(law, T(2.0)) for law in laws]


def case_families_of_classes():
    return [
        shown(dist.Bernoulli(0.3), T(1.0)),
        shown(dist.Bernoulli(logits=T(0.3)), T(1.0)),
        shown(dist.Categorical(T([0.2, 0.8])), T(1)),
        shown(dist.OneHotCategorical(T([0.2, 0.8])), T([0.0, 1.0])),
        shown(dist.Multinomial(3, T([0.2, 0.8])), T([1.0, 2.0])),
        shown(dist.DirichletMultinomial(T([1.0, 2.0]), 3), T([1.0, 2.0])),
        shown(dist.OrderedLogistic(T(0.5), T([-1.0, 1.0])), T(1)),
    ]


def case_families_of_vectors_and_matrices():
    return [
        shown(dist.MultivariateNormal(torch.zeros(2), EYE), T([0.1, 0.2])),
        shown(dist.LowRankMultivariateNormal(torch.zeros(2), torch.ones(2, 1), torch.ones(2)), T([0.1, 0.2])),
        shown(dist.MultivariateStudentT(3.0, torch.zeros(2), EYE), T([0.1, 0.2])),
        shown(dist.Dirichlet(T([1.0, 2.0])), T([0.3, 0.7])),
        shown(dist.RelaxedOneHotCategorical(T(0.5), T([0.3, 0.7])), T([0.4, 0.6])),
        shown(dist.LKJ(2, 1.5), T([[1.0, 0.3], [0.3, 1.0]])),
        shown(dist.LKJCholesky(2, 1.5), T([[1.0, 0.0], [0.6, 0.8]])),
        shown(dist.Wishart(T(3.0), EYE), EYE),
        shown(dist.ProjectedNormal(T([1.0, 2.0])), T([0.6, 0.8])),
        shown(dist.MixtureOfDiagNormals(torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)), torch.ones(3)),
        shown(dist.GaussianScaleMixture(torch.ones(3), torch.zeros(2), torch.ones(2)), torch.ones(3)),
    ]


def case_wrappers():
    normal = dist.Normal(torch.zeros(2), 1.0)
    return [
        shown(dist.Delta(T(2.0), log_density=T(0.5)), T(2.0)),
        shown(dist.Delta(T([2.0, 1.0]), event_dim=1), T([2.0, 1.0])),
        shown(normal.to_event(1), torch.ones(2)),
        shown(normal.mask(T([True, False])), torch.ones(2)),
        shown(dist.MaskedMixture(T([True, False]), normal, dist.Normal(1.0, 1.0).expand([2])), torch.ones(2)),
        shown(dist.TransformedDistribution(normal, [transforms.ExpTransform()]), torch.ones(2)),
        shown(dist.NanMaskedNormal(torch.zeros(2), torch.ones(2)), T([float("nan"), 0.5])),
    ]


def case_algebra():
    law = dist.Normal(torch.zeros(2, 3), 1.0)
    return [
        law.expand_by([4]).batch_shape,
        law.expand([5, 2, 3]).batch_shape,
        law.to_event().event_shape,
        law.to_event(1).shape((4,)),
        law((5,)).shape,
        dist.Independent(law, 1).batch_shape,
        law.to_event(2).event_dim,
        law.has_rsample,
        dist.Poisson(1.0).has_rsample,
        law.mask(False).log_prob(torch.zeros(2, 3)).sum(),
    ]


def case_supports_to_enumerate():
    law = dist.Categorical(torch.ones(2, 3) / 3)
    return law.enumerate_support().shape, law.enumerate_support(expand=False), law.has_enumerate_support


def case_shapes_from_arguments():
    normal = dist.Normal.infer_shapes(loc=torch.Size((2, 1)), scale=torch.Size((3,)))
    return normal, dist.Dirichlet.infer_shapes(concentration=torch.Size((2, 3)))


def case_moments():
    law = dist.Beta(2.0, 3.0)
    normal = dist.Normal(0.0, 1.0)
    return law.mean, law.variance, law.stddev, law.entropy(), normal.cdf(T(0.3)), normal.icdf(T(0.3))


def case_divergences():
    first, second = dist.Normal(torch.zeros(2), 1.0), dist.Normal(torch.ones(2), 2.0)
    return [
        kl_divergence(first, second),
        kl_divergence(first.to_event(1), second.to_event(1)),
        kl_divergence(dist.Delta(T(0.5)), dist.Normal(0.0, 1.0)),
    ]


def case_bijections():
    return [
        biject_to(constraints.positive)(T(0.3)),
        biject_to(constraints.simplex)(T([0.3, 0.1])),
        biject_to(constraints.interval(0.0, 2.0))(T(0.3)),
        biject_to(constraints.corr_cholesky)(T([0.3])),
        transform_to(constraints.lower_cholesky)(torch.ones(2, 2)),
        transforms.OrderedTransform()(T([0.1, 0.2])),
        transforms.LowerCholeskyAffine(torch.zeros(2), 2.0 * EYE)(torch.ones(2)),
        transforms.SoftplusLowerCholeskyTransform()(torch.ones(2, 2)),
        transforms.Normalize()(T([1.0, 3.0])),
        transforms.Permute(T([1, 0]))(T([1.0, 2.0])),
    ]


def case_family_of_ones_own():
    class Point(dist.TorchDistribution):
        arg_constraints = {}
        support = constraints.real
        has_rsample = True

        def __init__(self, at):
            self.at = at
            super().__init__(at.shape, torch.Size())

        def rsample(self, sample_shape=torch.Size()):  # noqa: B008
            return self.at.expand(torch.Size(sample_shape) + self.batch_shape)

        def log_prob(self, value):
            return -((value - self.at) ** 2)

        def expand(self, batch_shape, _instance=None):
            return Point(self.at.expand(batch_shape))

    def model():
        with pyro.plate("row", 3):
            return pyro.sample("x", Point(T(1.0)))

    record = poutine.trace(model).get_trace()
    return record.nodes["x"]["value"], record.log_prob_sum()


def case_flows():
    base = dist.Normal(torch.zeros(4), 1.0).to_event(1)
    shapes = []
    for make in (
        transforms.affine_autoregressive,
        transforms.affine_coupling,
        transforms.spline,
        transforms.spline_coupling,
        transforms.planar,
    ):
        flow = make(4)
        pyro.module("flow_" + make.__name__, flow)
        law = dist.TransformedDistribution(base, [flow])
        draw = law.rsample((3,))
        shapes.append((draw.shape, law.log_prob(draw).shape))
        law.clear_cache()
    return shapes
