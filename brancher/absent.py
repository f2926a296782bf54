"""Names of Pyro that are not here by decision, and what to use instead: told where a program asks for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brancher.errors import AbsentNameError
from brancher.moved import find, install

#: By module, what stands in for a name.
INSTEAD: dict[str, dict[str, str]] = {
    "brancher": {
        "barrier": "leave it out; models are run eagerly",
        "contrib": "it holds what is not finished there; see docs/from_pyro.md for what has a place here",
        "generic": "import brancher itself",
        "log": "use logging.getLogger",
    },
    "brancher.distributions": {
        "AVFMultivariateNormal": "use MultivariateNormal",
        "CoalescentRateLikelihood": "write it as a TorchDistribution",
        "CoalescentTimesWithRate": "write it as a TorchDistribution",
        "GroupedNormalNormal": "integrate the effects out by a MultivariateNormal, or sample them in a plate",
        "StableWithLogProb": "use StudentT, or write it as a TorchDistribution",
        "TruncatedPolyaGamma": "write it as a TorchDistribution",
        "CoalescentTimes": "write it as a TorchDistribution",
        "GammaGaussianHMM": "use GaussianHMM, or write the states as sites in a loop",
        "GaussianMRF": "use MultivariateNormal with precision_matrix",
        "IndependentHMM": "write the states as sites in a loop",
        "LKJCorrCholesky": "use LKJCholesky",
        "LinearHMM": "use GaussianHMM, or write the states as sites in a loop",
        "OMTMultivariateNormal": "use MultivariateNormal",
        "OneOneMatching": "write it as a TorchDistribution",
        "OneTwoMatching": "write it as a TorchDistribution",
        "Rejector": "write it as a TorchDistribution with a sample of its own",
        "SineBivariateVonMises": "use two VonMises, the second around a function of the first",
        "SineSkewed": "write it as a TorchDistribution",
        "SpanningTree": "write it as a TorchDistribution",
        "Stable": "use StudentT, or write it as a TorchDistribution",
    },
    "brancher.distributions.transforms": {
        "ConditionalGeneralizedChannelPermute": "use Permute, or ConditionalAffineCoupling",
        "CorrLCholeskyTransform": "use CorrCholeskyTransform",
        "CorrMatrixCholeskyTransform": "use CorrMatrixTransform",
        "SimplexToOrderedTransform": "write it as a TransformModule",
        "conditional_generalized_channel_permute": "use permute, or conditional_affine_coupling",
        "generalized_channel_permute": "use permute",
        "CholeskyTransform": "use constraints.lower_cholesky, or torch.linalg.cholesky",
        "GeneralizedChannelPermute": "use Permute",
    },
    "brancher.handlers": {
        "collapse": "use brancher.infer.TraceEnum_ELBO for discrete sites",
        "unwrap": "read .fn of a handler, or .__wrapped__",
    },
    "brancher.infer": {
        "CSIS": "use SVI on a guide, or Importance with one",
        "csis": "use SVI on a guide, or Importance with one",
        "TracePredictive": "use Predictive",
        "resampler": "use Importance and its resample, or MHResampler",
    },
    "brancher.infer.autoguide": {
        "AutoGaussian": "use AutoMultivariateNormal or AutoLowRankMultivariateNormal",
        "mean_field_entropy": "use the entropy method of the guide's laws",
    },
    "brancher.infer.mcmc": {
        "ArrowheadMassMatrix": "use NUTS(model, full_mass=True)",
        "BlockMassMatrix": "use NUTS(model), with full_mass=True for a dense one",
        "StreamingMCMC": "use MCMC, whose run continues where it left off",
    },
    "brancher.infer.reparam": {
        "ConjugateReparam": "leave it out, or give the conjugate law in the guide",
        "LatentStableReparam": "use a StudentT law with StudentTReparam",
        "LinearHMMReparam": "write the time steps as sites",
        "StableReparam": "use a StudentT law with StudentTReparam",
        "SymmetricStableReparam": "use a StudentT law with StudentTReparam",
    },
    "brancher.nn.module": {
        "clear": "use brancher.clear_param_store; modules keep their own parameters",
    },
    "brancher.ops": {
        "arrowhead": "write it with torch.linalg",
        "contract": "use torch.einsum, or TraceEnum_ELBO for a model's discrete sites",
        "dual_averaging": "it is part of MCMC",
        "einsum": "use torch.einsum, or TraceEnum_ELBO for a model's discrete sites",
        "gaussian": "use MultivariateNormal",
        "hessian": "use torch.func.hessian",
        "integrator": "it is part of HMC and NUTS",
        "jit": "use SVI(..., compile=True)",
        "linalg": "use torch.linalg",
        "newton": "use torch.optim.LBFGS",
        "packed": "write it with torch.einsum",
        "provenance": "use brancher.render_model, whose picture shows what depends on what",
        "streaming": "use brancher.summary on draws",
        "welford": "it is part of MCMC",
    },
    "brancher.optim": {
        "DCTAdam": "use Adam, with a reparametrised model",
        "HorovodOptimizer": "train loss = elbo(model, guide) under torch's DistributedDataParallel",
        "multi": "use a second-order optimizer of torch on elbo(model, guide), such as torch.optim.LBFGS",
    },
}


INSTEAD["brancher.poutine"] = INSTEAD["brancher.handlers"]
install(INSTEAD)


def refuse(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__``: finds a name of Pyro that is elsewhere, or says what to use instead.

    The error is an ImportError: Python hides the text of an AttributeError from ``from ... import``.

    Args:
        module: the module, as in :data:`INSTEAD`.
    """

    def __getattr__(name: str) -> Any:
        instead = INSTEAD.get(module, {}).get(name)
        if instead is not None:
            raise AbsentNameError(f"{module}.{name}: expected a name of {module}, got one of Pyro; {instead}")
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return find(module, name)

    return __getattr__
