"""What all evidence lower bounds share: particles, and the loss as a number or a differentiable value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, overload

import torch

from brancher.distributions.validation import is_validating, validation_enabled
from brancher.errors import BrancherWarning, InferenceError, InferenceTypeError, NonFiniteError, nearest
from brancher.handlers import Trace, stack
from brancher.infer.agreement import BATCH, why_not
from brancher.infer.checks import FirstSight, check_model_trace, check_pair, explain, names_differ
from brancher.infer.pairing import paired_traces
from brancher.infer.particles import particle_plate
from brancher.infer.replicate import lay_out
from brancher.params import undone_on_error

Fn = Callable[..., Any]


class Estimate(NamedTuple):
    """One run's share of the loss.

    Attributes:
        loss: negative ELBO in nats, shape ``()``.
        surrogate: a scalar whose gradient estimates the gradient of the loss.
    """

    loss: torch.Tensor
    surrogate: torch.Tensor


class ELBO:
    """Base of the evidence lower bounds.

    A subclass writes :meth:`estimate`; or, as programs written for Pyro do, ``loss``, ``loss_and_grads`` and
    ``differentiable_loss`` by itself.

    Args:
        num_particles: draws averaged in one step, > 0.
        max_plate_nesting: how many batch dimensions the plates of the model use; found by
            running the model once when it is needed and not given.
        vectorize_particles: draw all particles at once, as a batch dimension left of every
            plate. None tries that at first sight and goes back to a loop, with a warning, for a
            model that mixes its batch dimensions.

    Raises:
        InferenceError: ``num_particles`` is not a positive int, or ``max_plate_nesting`` no int >= 0.
    """

    def __init__(
        self,
        num_particles: int = 1,
        max_plate_nesting: int | float | None = None,
        vectorize_particles: bool | None = None,
    ) -> None:
        if isinstance(num_particles, bool) or not isinstance(num_particles, int) or num_particles < 1:
            raise InferenceError(
                f"{type(self).__name__}: expected num_particles as an int > 0, got {num_particles!r}; "
                "1 is usual"
            )
        if vectorize_particles not in (None, True, False):
            raise InferenceError(
                f"{type(self).__name__}: expected vectorize_particles as True, False or None, got "
                f"{vectorize_particles!r}; "
                "None tries it"
            )
        if max_plate_nesting is not None and max_plate_nesting != math.inf:
            _check_nesting(type(self).__name__, max_plate_nesting)
        self.num_particles = num_particles
        self.vectorize_particles = vectorize_particles
        self.max_plate_nesting = None if max_plate_nesting == float("inf") else max_plate_nesting
        self._first_sight = FirstSight()
        self._plans: dict[tuple[int, int], tuple[Any, bool, int]] = {}

    def state_dict(self) -> dict[str, Any]:
        """What the loss has learned beside the parameters, such as baselines: tensors by name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> Any:
        """What one pair of traces says: an :class:`Estimate`, averaged over its particles.

        An objective that is no average over runs gives what its own :meth:`estimates` joins.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected estimate or loss_and_grads; write one")

    def _get_traces(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[tuple[Trace, Trace]]:
        # Objectives written for Pyro go through their particles with this.
        for _ in range(self.num_particles):
            model_trace, guide_trace = paired_traces(model, guide, args, kwargs)
            model_trace.compute_log_prob()
            guide_trace.compute_score_parts()
            yield model_trace, guide_trace

    def estimates(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Estimate]:
        """Run guide and model and yield the shares; they add up to the loss."""
        repeats = 1 if self._plan(model, guide, args, kwargs)[0] else self.num_particles
        for share in self.runs(model, guide, args, kwargs):
            yield share if repeats == 1 else Estimate(share.loss / repeats, share.surrogate / repeats)

    def runs(self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
        """Run guide and model, and yield what :meth:`estimate` says of each pair of traces.

        One run where particles are vectorized, else one a particle. Arguments and structure are checked at
        the first sight of each model, guide and argument shapes.
        """
        is_watched = is_validating()
        is_new = is_watched and self._first_sight.is_new(model, guide, args, kwargs)
        vectorized, nesting = self._plan(model, guide, args, kwargs)
        repeats = 1 if vectorized else self.num_particles
        size = self.num_particles if vectorized else 1

        def pair() -> tuple[Trace, Trace]:
            if not vectorized:
                return paired_traces(model, guide, args, kwargs)
            with particle_plate(size, nesting):
                return paired_traces(model, guide, args, kwargs)

        is_checked = is_new
        for _ in range(repeats):
            # Left before the yield: a consumer that fails would stay inside.
            try:
                with validation_enabled(is_checked):
                    share = self._share(pair, size, is_watched)
            except Exception as error:
                if not is_checked:
                    explain(error, pair)
                raise
            is_checked = False  # what holds for the first particle holds for the others
            yield share
        if is_new:
            self._first_sight.seen(model, guide, args, kwargs)

    def _share(self, pair: Callable[[], tuple[Trace, Trace]], size: int, is_watched: bool) -> Any:
        model_trace, guide_trace = pair()
        if is_validating() or (is_watched and names_differ(model_trace, guide_trace)):
            check_pair(model_trace, guide_trace)
        share: Any = self.estimate(model_trace, guide_trace, size)
        if is_validating():
            check_model_trace(guide_trace, "guide")
            check_model_trace(model_trace, "model")
        return share

    def particles(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AbstractContextManager[None]:
        """The plate of the particles where they are vectorized; else nothing."""
        vectorized, nesting = self._plan(model, guide, args, kwargs)
        return particle_plate(self.num_particles, nesting) if vectorized else nullcontext()

    def _plan(self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, int]:
        """Decide once for each model and guide whether particles are vectorized, and where."""
        if self.num_particles == 1:
            return False, 0
        key = (id(model), id(guide))
        if key not in self._plans:
            # Tried out in silence: what there is to say is said in the run that counts.
            try:
                with validation_enabled(False):
                    # The pair is kept with the plan: an id is only unique while its object lives.
                    self._plans[key] = ((model, guide), *self._planned(model, guide, args, kwargs))
            except Exception as error:
                explain(error, lambda: paired_traces(model, guide, args, kwargs))
                raise
        return self._plans[key][1:]

    def _planned(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bool, int]:
        try:
            layout = lay_out(lambda: paired_traces(model, guide, args, kwargs), {})
        except Exception:
            if not self.vectorize_particles or self.max_plate_nesting is None:
                raise
            # A model may be written for the batch that it is told of, and for nothing else.
            return True, int(self.max_plate_nesting)
        nesting = layout.nesting if self.max_plate_nesting is None else int(self.max_plate_nesting)
        if nesting < layout.nesting:
            raise InferenceError(
                f"{type(self).__name__}: expected max_plate_nesting >= {layout.nesting}, the batch "
                f"dimensions of model and guide, got {nesting}; leave it out to have it found"
            )
        if self.vectorize_particles is not None:
            return self.vectorize_particles, nesting
        reason = why_not(BATCH, lambda: paired_traces(model, guide, args, kwargs), layout)
        if reason is not None:
            self._warn_sequential(reason)
        return reason is None, nesting

    def _warn_sequential(self, reason: str) -> None:
        warnings.warn(
            f"{type(self).__name__}: expected a model that allows a batch of particles, got one where not "
            f"({reason}); particles run one after the other: give vectorize_particles=False to accept that, "
            "or write the model for batch dimensions on the left",
            BrancherWarning,
            stacklevel=4,
        )

    def loss(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> float:
        """Estimate the loss.

        Returns:
            Negative ELBO in nats; lower is better.
        """
        with stack.restored(), torch.no_grad(), undone_on_error():
            return sum(float(share.loss) for share in self.estimates(model, guide, args, kwargs))

    def differentiable_loss(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Estimate the loss as a tensor whose gradient estimates the gradient of the loss.

        Returns:
            Negative ELBO in nats, shape ``()``.
        """
        total: Any = 0.0
        with stack.restored(), undone_on_error():
            for loss, surrogate in self.estimates(model, guide, args, kwargs):
                total = total + (loss if loss is surrogate else surrogate + (loss - surrogate).detach())
        return total  # type: ignore[no-any-return]

    def loss_and_grads(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> float:
        """Estimate the loss and add its gradients to the ``.grad`` of the parameters.

        Returns:
            Negative ELBO in nats.

        Raises:
            NonFiniteError: the loss is NaN or infinite; ``.grad`` is as before.
        """
        # One backward pass at the end: a later particle that fails must not leave gradients of earlier ones.
        total = self.differentiable_loss(model, guide, *args, **kwargs)
        value = float(total.detach())
        if not math.isfinite(value):
            raise NonFiniteError(
                f"{type(self).__name__}.loss_and_grads: expected a finite loss, got {value}; gradients are "
                "unchanged: check the data and the initial values"
            )
        if total.requires_grad:
            total.backward()
        return value

    @overload
    def __call__(self, model: Fn, guide: Fn) -> ELBOModule: ...

    @overload
    def __call__(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> ELBOModule | float: ...

    def __call__(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> ELBOModule | float:
        """Bind model and guide to a module whose forward pass is the loss; with arguments, :meth:`loss`.

        So ``svi.loss(model, guide, data)`` is a number, as in Pyro.
        """
        return self.loss(model, guide, *args, **kwargs) if args or kwargs else ELBOModule(model, guide, self)


#: Options of Pyro's objectives that need no answer here.
_PYRO_OPTIONS = frozenset(
    {
        "ignore_jit_warnings",
        "jit_options",
        "max_iarange_nesting",
        "retain_graph",
        "strict_enumeration_warning",
        "tail_adaptive_beta",
    }
)


def check_pyro_options(owner: object, options: Mapping[str, Any]) -> None:
    """Take the options of Pyro's objectives that need no answer here.

    Raises:
        InferenceTypeError: an option is unknown.
    """
    for name in options:
        if name not in _PYRO_OPTIONS:
            known = [*_PYRO_OPTIONS, "num_particles", "max_plate_nesting", "vectorize_particles"]
            raise InferenceTypeError(
                f"{type(owner).__name__}: expected known options, got '{name}'"
                f"{nearest(name, known) or '; leave it out'}"
            )


def _check_nesting(owner: str, nesting: Any) -> None:
    """Refuse a number of batch dimensions that is no int >= 0."""
    if isinstance(nesting, bool) or not isinstance(nesting, int) or nesting < 0:
        raise InferenceError(
            f"{owner}: expected max_plate_nesting as an int >= 0 or None, got {nesting!r}; "
            "leave it out to have it found"
        )


class ELBOModule(torch.nn.Module):
    """The loss of one model and guide as a torch module, for training loops of one's own.

    Example:
        >>> from brancher.infer import Trace_ELBO
        >>> from brancher.infer.autoguide import AutoNormal
        >>> model = lambda: sample("x", dist.Normal(0.0, 1.0))
        >>> loss = Trace_ELBO()(model, AutoNormal(model))
        >>> loss().shape
        torch.Size([])
    """

    def __init__(self, model: Fn, guide: Fn, elbo: ELBO) -> None:
        super().__init__()
        self.model, self.guide, self.elbo = model, guide, elbo

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The loss in nats, shape ``()``."""
        return self.elbo.differentiable_loss(self.model, self.guide, *args, **kwargs)
