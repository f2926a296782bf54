"""``perform_inference``: fit a model's posterior, and what is learned in the model."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

from brancher.errors import InferenceError, InferenceTypeError
from brancher.optim.accept import as_optimizer
from brancher.optim.named import OptimizerClass, torch_class
from brancher.optim.optimizer import Optimizer
from brancher.symbolic.methods import MAP, InferenceMethod, MaximumLikelihood, ReverseKL, Settings
from brancher.symbolic.models import ProbabilisticModel
from brancher.symbolic.nuts import NUTS
from brancher.symbolic.particles import (
    SteinVariationalGradientDescent,
    WassersteinVariationalGradientDescent,
)
from brancher.symbolic.policies import ExpectedReward
from brancher.symbolic.variables import Variable

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MAP",
    "NUTS",
    "ExpectedReward",
    "InferenceMethod",
    "InferenceResult",
    "MaximumLikelihood",
    "ReverseKL",
    "SteinVariationalGradientDescent",
    "WassersteinVariationalGradientDescent",
    "perform_inference",
]


class InferenceResult:
    """What inference gave; prints as a table.

    Args:
        model: the model that was fitted.
        losses: by iteration, in nats; None for methods without.

    Attributes:
        losses: the losses.
    """

    def __init__(self, model: ProbabilisticModel, losses: pd.Series | None) -> None:
        self.model, self.losses = model, losses

    def summary(self, number_samples: int = 1000, seed: int | None = 0) -> pd.DataFrame:
        """One row an entry of a latent variable (mean, sd, interval), then learned values of the model."""
        return summary_of(self.model, number_samples, seed)

    def __repr__(self) -> str:
        table = self.summary().to_string(float_format="{:.4g}".format)
        if self.losses is None:
            return table
        last = self.losses.iloc[-100:]
        return f"{table}\n\nloss {last.mean():.4g} nats (mean of the last {len(last)})"

    def _repr_html_(self) -> str:
        return str(self.summary().to_html(float_format="{:.4g}".format))


def perform_inference(
    inference_model: Any,
    number_iterations: int,
    number_samples: int = 1,
    optimizer: Any = "Adam",
    inference_method: InferenceMethod | type[InferenceMethod] | None = None,
    posterior_model: Any = None,
    pretraining_iterations: int = 0,
    VI_opt_params: dict[str, Any] | None = None,
    ML_opt_params: dict[str, Any] | None = None,
    progress: bool = True,
    compile: Any = "auto",
    callback: Callable[[int, float], Any] | None = None,
    seed: int | None = None,
    **optimizer_options: Any,
) -> Any:
    """Fit a model to its data.

    Args:
        inference_model: the model, with data given by ``observe``; a variable, with all that it depends on;
            or an :class:`Ensemble`, whose models are fitted each.
        number_iterations: gradient steps; draws a chain for :class:`NUTS`; > 0.
        number_samples: draws of the posterior in one step, a single batch; > 0.
        optimizer: a name, a class or an instance, of torch or of ``brancher.optim``.
        inference_method: None for :class:`ReverseKL`.
        posterior_model: what approximates the posterior; None for what the model has, or one built by itself.
            For methods of particles, a list of models of deterministic variables: where each one starts.
        pretraining_iterations: first steps in which learnable values of the model itself rest.
        VI_opt_params: optimizer options of the posterior's parameters.
        ML_opt_params: optimizer options of the model's own parameters.
        progress: whether to show a bar.
        compile: whether steps run as one compiled graph; see ``SVI``.
        callback: called with the number of the step and its loss; a true result stops.
        seed: of the random numbers; None goes on with torch's.
        **optimizer_options: of the optimizer, such as ``lr``.

    Returns:
        An :class:`InferenceResult`, which prints as a summary table; of an ensemble one a model, by name.
        The losses are in ``model.diagnostics["loss curve"]`` too.

    Raises:
        InferenceError: a number is out of range.
        GuideError: model and posterior do not fit together.

    Example:
        >>> from brancher.symbolic import NormalVariable, ProbabilisticModel, inference
        >>> mu = NormalVariable(0.0, 1.0, "mu")
        >>> y = NormalVariable(mu, 1.0, "y")
        >>> y.observe([1.0, 1.5, 2.0])
        >>> model = ProbabilisticModel([y])
        >>> result = inference.perform_inference(model, 200, 10, lr=0.05, progress=False, compile=False)
        >>> len(model.diagnostics["loss curve"])
        200
    """
    if hasattr(inference_model, "perform_inference"):  # an ensemble: this for each of its models
        return inference_model.perform_inference(
            number_iterations,
            number_samples=number_samples,
            optimizer=optimizer,
            inference_method=inference_method,
            posterior_model=posterior_model,
            pretraining_iterations=pretraining_iterations,
            VI_opt_params=VI_opt_params,
            ML_opt_params=ML_opt_params,
            progress=progress,
            compile=compile,
            callback=callback,
            seed=seed,
            **optimizer_options,
        )
    if isinstance(inference_model, Variable):
        inference_model = inference_model.model()
    if not isinstance(inference_model, ProbabilisticModel):
        raise InferenceTypeError(
            "perform_inference: expected a ProbabilisticModel, got "
            f"{type(inference_model).__name__}; for a function "
            "use brancher.infer.SVI"
        )
    for name, value, least in (
        ("number_iterations", number_iterations, 1),
        ("number_samples", number_samples, 1),
        ("pretraining_iterations", pretraining_iterations, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise InferenceError(f"perform_inference: expected {name} as an int >= {least}, got {value!r}")
    method = _as_method(inference_method)
    if posterior_model is not None:
        method.take_posterior(inference_model, posterior_model)

    def make(resting: bool) -> Optimizer:
        return _optimizer(optimizer, optimizer_options, VI_opt_params, ML_opt_params, resting)

    make(False)  # bad options are told before anything runs
    settings = Settings(
        int(number_iterations),
        int(number_samples),
        make,
        int(pretraining_iterations),
        progress,
        compile,
        callback,
        optimizer_options,
    )
    with inference_model._seeded(seed):
        losses = method.run(inference_model, settings)
    if losses is not None:
        inference_model.diagnostics["loss curve"] = losses
    return InferenceResult(inference_model, losses)


def _as_method(method: Any) -> InferenceMethod:
    if method is None:
        return ReverseKL()
    made = method() if isinstance(method, type) and issubclass(method, InferenceMethod) else method
    if not isinstance(made, InferenceMethod):
        raise InferenceTypeError(
            f"perform_inference: expected inference_method as one of inference.ReverseKL() and its like, got "
            f"{type(made).__name__}"
        )
    return made


def _optimizer(
    optimizer: Any,
    options: dict[str, Any],
    posterior: dict[str, Any] | None,
    model: dict[str, Any] | None,
    resting: bool,
) -> Optimizer:
    if isinstance(optimizer, (str, type, OptimizerClass)):
        kind = torch_class(optimizer)
        plain = {"lr": 0.01, **options} if kind.__name__.startswith("Adam") else dict(options)
        if not (posterior or model or resting):
            return Optimizer(kind, plain)

        def of(name: str) -> dict[str, Any]:
            if ".posterior." in f".{name}" or name.startswith("Auto"):
                return {**plain, **(posterior or {})}
            return {**plain, **(model or {}), **({"lr": 0.0} if resting else {})}

        return Optimizer(kind, of)
    if options or posterior or model:
        raise InferenceError(
            "perform_inference: expected the options "
            f"{sorted({**options, **(posterior or {}), **(model or {})})} "
            "with an optimizer by name or class, got an instance; give them to the instance"
        )
    if resting:
        raise InferenceError(
            "perform_inference: expected an optimizer by name or class with pretraining_iterations"
        )
    return as_optimizer(optimizer)


def summary_of(model: ProbabilisticModel, number_samples: int, seed: int | None) -> pd.DataFrame:
    """A table of the posterior and of learned values."""
    import pandas as pd
    import torch

    from brancher.infer.samples import summary

    tables = []
    pair = model._pair()
    if pair.latents:
        with model._seeded(seed):
            values, _ = model._posterior_draws(number_samples, None)
        tables.append(summary({name: value for name, value in values.items() if name in pair.latents}))
    for name, value in model.parameters.items():
        tables.append(summary({name: torch.as_tensor(value)[None]}).iloc[:, :1])
    return pd.concat(tables) if tables else pd.DataFrame()
