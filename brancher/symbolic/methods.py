"""Ways of fitting a model, and what each makes of the posterior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brancher.errors import InferenceError, UnsupportedError
from brancher.handlers import trace
from brancher.infer import ELBO, SVI, Trace_ELBO
from brancher.infer.autoguide import AutoDelta, AutoNormal
from brancher.symbolic.alone import alone
from brancher.symbolic.data import DeterministicVariable
from brancher.symbolic.gradients import ESTIMATORS, TaylorLoss, estimated
from brancher.symbolic.mean_field import MeanField
from brancher.symbolic.pairs import Pair
from brancher.symbolic.paths import with_paths
from brancher.symbolic.program import Program
from brancher.symbolic.variables import RandomVariable

if TYPE_CHECKING:
    import pandas as pd

    from brancher.symbolic.models import ProbabilisticModel


@dataclass
class Settings:
    """What a run of inference was asked for.

    Attributes:
        iterations: how many steps.
        samples: draws a step.
        optimizer: makes an optimizer from extra options of the model's parameters and of the posterior's.
        pretraining: first steps, in which the model's own parameters rest.
        progress: whether to show a bar.
        compile: as for ``SVI``.
        callback: called with step and loss.
        options: of the method.
    """

    iterations: int
    samples: int
    optimizer: Callable[..., Any]
    pretraining: int = 0
    progress: bool = True
    compile: Any = "auto"
    callback: Callable[[int, float], Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


class InferenceMethod(ABC):
    """A way of fitting a model."""

    @abstractmethod
    def run(self, model: ProbabilisticModel, settings: Settings) -> pd.Series | None:
        """Fit the model and its posterior; return the losses in nats, None for methods without."""

    def take_posterior(self, model: ProbabilisticModel, posterior: Any) -> None:
        """Use what was given as the posterior."""
        model.set_posterior_model(posterior)


class ReverseKL(InferenceMethod):
    """Maximise the evidence lower bound.

    With no posterior set, one is built: independent normals in unconstrained space, or the model's own
    laws with learnable corrections, which discrete variables have too.

    Args:
        gradient_estimator: ``"pathwise"``, ``"score"`` (score function, with a decaying average as control
            variate) or ``"taylor"`` (score function, with a first-order expansion as control variate) for all
            variables; None takes what fits each family, and differentiates densities of the posterior along
            the draws alone, which leaves out a part that is zero on average.
        automatic: ``"mean-field"`` or ``"structured"``, the posterior that is built; for None the second
            where a latent variable is discrete, else the first.

    Raises:
        InferenceError: a choice is unknown.
    """

    def __init__(self, gradient_estimator: str | None = None, automatic: str | None = None) -> None:
        if gradient_estimator not in (None, *ESTIMATORS):
            raise InferenceError(
                f"ReverseKL: expected gradient_estimator among {list(ESTIMATORS)} or None, got "
                f"{gradient_estimator!r}"
            )
        if automatic not in (None, "mean-field", "structured"):
            raise InferenceError(
                f"ReverseKL: expected automatic as 'mean-field', 'structured' or None, got {automatic!r}"
            )
        self.gradient_estimator, self.automatic = gradient_estimator, automatic

    def run(self, model: ProbabilisticModel, settings: Settings) -> pd.Series | None:
        if not model.has_posterior:
            self.build_posterior(model)
        pair = model._pair()
        guide = pair.guide
        if self.gradient_estimator is None:
            guide = with_paths(guide) if isinstance(guide, Program) else guide
        else:
            guide = estimated(guide, self.gradient_estimator)
        loss = TaylorLoss(settings.samples, pair.nesting) if self.gradient_estimator == "taylor" else None
        return optimised(pair, guide, settings, loss)

    def build_posterior(self, model: ProbabilisticModel) -> None:
        """Give the model a posterior."""
        program = Pair(model, _nothing).model
        latents = [
            v for v in program.variables if isinstance(v, RandomVariable) and program.data_of(v) is None
        ]
        if not latents:
            model._posterior = _nothing
        elif self.automatic == "structured" or (self.automatic is None and _any_discrete(program)):
            from brancher.symbolic.structured import structured_posterior

            model.set_posterior_model(structured_posterior(latents))
        else:
            kind = MeanField if self.gradient_estimator is None else AutoNormal
            model._posterior = kind(program, prefix="AutoNormal")


class MAP(InferenceMethod):
    """Find the most probable values of the latent variables.

    A posterior of deterministic variables, learned, says where to start; without one, all start at
    their medians. Learnable values of the model are fitted too.
    """

    def run(self, model: ProbabilisticModel, settings: Settings) -> pd.Series | None:
        if model.posterior_model is not None:
            names = {v.name for v in model.random_variables}
            random = [v.name for v in model.posterior_model.random_variables if v.name in names]
            if random:
                raise InferenceError(
                    f"MAP: expected a posterior of deterministic variables, got random ones {random}; give "
                    f"{DeterministicVariable.__name__}(value, name, learnable=True), or no posterior"
                )
        else:
            program = Pair(model, _nothing).model
            latent = any(
                isinstance(v, RandomVariable) and program.data_of(v) is None for v in program.variables
            )
            model._posterior = AutoDelta(program) if latent else _nothing
        pair = model._pair()
        return optimised(pair, pair.guide, settings)


class MaximumLikelihood(ReverseKL):
    """Fit the learnable values and networks of a model to its data.

    Latent variables, where there are any, are integrated by a posterior, as in :class:`ReverseKL`.
    """


def _any_discrete(program: Program) -> bool:
    """Whether a latent variable takes separate values."""
    with alone():
        record = trace(program).get_trace()
    return any(_is_discrete(site.fn) for site in record.sites("sample") if not site.is_observed)


def _is_discrete(law: Any) -> bool:
    try:
        return bool(law.support.is_discrete)
    except NotImplementedError:
        return False


def _nothing() -> None:
    """The guide of a model without latent variables."""


def whole_data(model: ProbabilisticModel, method: str) -> Pair:
    """The model alone, for methods whose density must be the same at every call.

    Raises:
        UnsupportedError: its data are minibatches.
    """
    pair = Pair(model, _nothing)
    for name, rows in pair.model.rows.items():
        if rows.present != rows.size:
            raise UnsupportedError(
                f"{method}: expected all {rows.size} rows of '{name}', got minibatches of {rows.present}; "
                "give a batch_size of all rows, or use inference.ReverseKL or MAP"
            )
    return pair


def optimised(pair: Pair, guide: Callable[..., Any], settings: Settings, loss: Any = None) -> pd.Series:
    """Fit a pair by gradient steps; losses in nats by iteration."""
    losses = []
    if settings.pretraining:
        losses.append(_steps(pair, guide, settings, settings.pretraining, True, loss))
    losses.append(_steps(pair, guide, settings, settings.iterations, False, loss))
    import pandas as pd

    joined = pd.concat(losses, ignore_index=True) if len(losses) > 1 else losses[0].reset_index(drop=True)
    joined.index.name, joined.name = "iteration", "loss"
    return joined


def _steps(
    pair: Pair, guide: Callable[..., Any], settings: Settings, count: int, resting: bool, loss: Any
) -> pd.Series:
    optimizer = settings.optimizer(resting)
    key = (guide if guide is pair.guide else type(guide), settings.samples, settings.compile, type(loss))
    svi = pair.runs.get(key)
    if svi is None:
        own = elbo(pair, settings.samples) if loss is None else loss
        svi = SVI(pair.model, guide, optimizer, own, store=pair.store, compile=settings.compile)
        pair.runs[key] = svi
    else:
        # A run with the same steps goes on with their graph, and with an optimizer of its own.
        svi.optim = optimizer
        svi._compiled.restart()
        svi.steps, svi.history = 0, []
    return svi.run(count, progress=settings.progress, callback=settings.callback)


def elbo(pair: Pair, samples: int) -> ELBO:
    """The evidence lower bound with all draws in one batch."""
    return Trace_ELBO(
        num_particles=samples,
        max_plate_nesting=pair.nesting,
        vectorize_particles=True if samples > 1 else None,
    )
