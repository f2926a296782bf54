"""Names of Pyro that are not here by decision, and what to use instead: told where a program asks for one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from brancher.errors import AbsentNameError, nearest

#: By module, what stands in for a name.
INSTEAD: dict[str, dict[str, str]] = {
    "brancher": {
        "barrier": "leave it out; models are run eagerly",
        "contrib": "it holds what is not finished there; see docs/from_pyro.md for what has a place here",
        "generic": "import brancher itself",
        "iarange": "use plate, as a context manager",
        "irange": "use plate, as a loop",
        "log": "use logging.getLogger",
        "random_module": "use brancher.nn.PyroModule with PyroSample attributes",
        "settings": "give options to what they are for, and use enable_validation",
        "util": "use brancher.set_rng_seed, and float(loss) for torch_item(loss)",
    },
    "brancher.distributions": {
        "AVFMultivariateNormal": "use MultivariateNormal",
        "CoalescentTimes": "write it as a TorchDistribution",
        "ConditionalDistribution": "make the distribution inside the model, from what it depends on",
        "ConditionalTransformedDistribution": "use TransformedDistribution with a flow that sees its context",
        "DiscreteHMM": "write the states as sites in a markov loop; TraceEnum_ELBO and samplers sum them out",
        "GammaGaussianHMM": "write the states as sites in a loop",
        "GaussianHMM": "write the states as sites in a loop, or the whole series as a MultivariateNormal",
        "GaussianMRF": "use MultivariateNormal with precision_matrix",
        "IndependentHMM": "write the states as sites in a loop",
        "LKJCorrCholesky": "use LKJCholesky",
        "LinearHMM": "write the states as sites in a loop",
        "OMTMultivariateNormal": "use MultivariateNormal",
        "OneOneMatching": "write it as a TorchDistribution",
        "OneTwoMatching": "write it as a TorchDistribution",
        "Rejector": "write it as a TorchDistribution with a sample of its own",
        "SineBivariateVonMises": "use two VonMises, the second around a function of the first",
        "SineSkewed": "write it as a TorchDistribution",
        "SpanningTree": "write it as a TorchDistribution",
        "Stable": "use StudentT, or write it as a TorchDistribution",
        "TorchDistributionMixin": "use TorchDistribution",
        "torch_distribution": "use TorchDistribution",
        "util": "use torch.broadcast_shapes and the constraints of brancher.distributions",
    },
    "brancher.distributions.transforms": {
        "BatchNorm": "use torch.nn.BatchNorm1d inside a network",
        "BlockAutoregressive": "use AffineAutoregressive or SplineAutoregressive",
        "CholeskyTransform": "use constraints.lower_cholesky, or torch.linalg.cholesky",
        "DiscreteCosineTransform": "write it as a TransformModule",
        "GeneralizedChannelPermute": "use Permute",
        "HaarTransform": "write it as a TransformModule",
        "Householder": "use AffineCoupling",
        "MatrixExponential": "use AffineCoupling",
        "NeuralAutoregressive": "use SplineAutoregressive",
        "Polynomial": "use SplineAutoregressive",
        "Radial": "use Planar",
        "Sylvester": "use Planar or AffineCoupling",
        "batchnorm": "use torch.nn.BatchNorm1d inside a network",
        "block_autoregressive": "use affine_autoregressive or spline_autoregressive",
        "conditional_spline": "use spline_coupling, with the context among the first entries",
        "householder": "use affine_coupling",
        "matrix_exponential": "use affine_coupling",
        "neural_autoregressive": "use spline_autoregressive",
        "polynomial": "use spline_autoregressive",
        "radial": "use planar",
        "sylvester": "use planar or affine_coupling",
    },
    "brancher.handlers": {
        "collapse": "use brancher.infer.TraceEnum_ELBO for discrete sites",
        "enable_validation": "use brancher.enable_validation",
        "is_validation_enabled": "use brancher.validation_enabled, a context manager",
        "runtime": "use handlers.Messenger, handlers.Message and handlers.NonlocalExit",
        "unwrap": "read .fn of a handler, or .__wrapped__",
    },
    "brancher.infer": {
        "CSIS": "use SVI on a guide, or Importance with one",
        "EnergyDistance": "use Trace_ELBO, or RenyiELBO for a wider posterior",
        "MHResampler": "use Importance and its resample",
        "is_validation_enabled": "use brancher.validation_enabled, a context manager",
        "RandomWalkKernel": "use RandomWalk",
        "TracePosterior": "use MCMC or Importance",
        "TracePredictive": "use Predictive",
        "TraceTMC_ELBO": "use TraceEnum_ELBO, which sums over all values",
        "TraceTailAdaptive_ELBO": "use RenyiELBO",
        "Trace_MMD": "use Trace_ELBO",
        "WeighedPredictive": "use Importance, its samples and weights",
    },
    "brancher.infer.autoguide": {
        "AutoDiscreteParallel": "leave discrete sites out of the guide; TraceEnum_ELBO sums them out",
        "AutoGaussian": "use AutoMultivariateNormal or AutoLowRankMultivariateNormal",
        "AutoHierarchicalNormalMessenger": "use AutoNormal on a model rewritten by infer.reparam",
        "AutoMessenger": "use AutoGuide",
        "AutoNormalMessenger": "use AutoNormal",
        "AutoRegressiveMessenger": "use AutoIAFNormal",
        "AutoStructured": "use AutoMultivariateNormal, or AutoGuideList with functions of your own",
    },
    "brancher.infer.reparam": {
        "ConjugateReparam": "leave it out, or give the conjugate law in the guide",
        "DiscreteCosineReparam": "write an infer.reparam.Reparam",
        "HaarReparam": "write an infer.reparam.Reparam",
        "LatentStableReparam": "use a StudentT law with StudentTReparam",
        "LinearHMMReparam": "write the time steps as sites",
        "StableReparam": "use a StudentT law with StudentTReparam",
        "StructuredReparam": "use NeuTraReparam",
        "SymmetricStableReparam": "use a StudentT law with StudentTReparam",
        "UnitJacobianReparam": "use TransformReparam, or write an infer.reparam.Reparam",
    },
    "brancher.nn": {
        "ConditionalAutoRegressiveNN": "concatenate the inputs of a network of your own",
        "ConditionalDenseNN": "concatenate the inputs of a DenseNN",
    },
    "brancher.optim": {
        "DCTAdam": "use Adam, with a reparametrised model",
        "HorovodOptimizer": "train loss = elbo(model, guide) under torch's DistributedDataParallel",
        "multi": "use a second-order optimizer of torch on elbo(model, guide), such as torch.optim.LBFGS",
    },
}


def refuse(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__``, which says what to use instead of a name that is absent by decision.

    The error is an ImportError: Python hides the text of an AttributeError from ``from ... import``.

    Args:
        module: the module, as in :data:`INSTEAD`.
    """

    def __getattr__(name: str) -> Any:
        instead = INSTEAD[module].get(name)
        if instead is not None:
            raise AbsentNameError(f"{module}.{name}: expected a name of {module}, got one of Pyro; {instead}")
        known = vars(sys.modules[module])
        raise AttributeError(f"module {module!r} has no attribute {name!r}{nearest(name, known)}")

    return __getattr__
