"""``SVI``: fit a guide to a model by stochastic gradient steps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Literal

import torch

from brancher.errors import BrancherWarning, InferenceError, InferenceTypeError, NonFiniteError
from brancher.handlers import stack
from brancher.infer import checkpoint
from brancher.infer.checks import first_bad_site
from brancher.infer.compiled_step import CompiledStep
from brancher.infer.elbo import ELBO, Trace_ELBO
from brancher.infer.gradients import as_loss, gradients, taken
from brancher.infer.observer import Observer
from brancher.infer.training import Settings, train
from brancher.optim import Optimizer, as_optimizer
from brancher.params import ParamStore, using
from brancher.staging import RandomState

if TYPE_CHECKING:
    import os

    import pandas as pd

Fn = Callable[..., Any]

#: Entries of a gradient that is looked through together with others.
SMALL = 4096


class SVI:
    """Stochastic variational inference (Hoffman et al. 2013, arXiv:1206.7051).

    Args:
        model: the model.
        guide: the guide; None for an ``AutoNormal`` of the model.
        optim: an optimizer of ``brancher.optim``; or a torch optimizer class, instance, factory
            or name; None for Adam.
        loss: an ELBO, or a function ``(model, guide, *args) -> scalar tensor``; None for
            :class:`Trace_ELBO`.
        loss_and_grads: a function ``(model, guide, *args)`` that adds gradients to the ``.grad`` of the
            parameters itself and returns the loss, in place of the loss's own gradients; not compiled.
        store: where parameters live; None for the store that is current at each call.
        compile: run steps as one compiled graph: True from the second step with arguments of
            a shape on, False never, ``"auto"`` in a :meth:`run` that is long enough to repay
            the seconds it takes. The numbers are those of eager steps to rounding. Python
            values that the model reads from globals or closures are fixed by the compilation;
            a model that can not be compiled runs eagerly, with a warning.

    Raises:
        InferenceTypeError: model, guide or loss is of another kind.
        OptimTypeError: the optimizer is of another kind.

    Example:
        >>> model = lambda: sample("x", dist.Normal(3.0, 1.0))
        >>> svi = SVI(model, AutoNormal(model), optim.Adam({"lr": 0.05}), Trace_ELBO())
        >>> losses = [svi.step() for _ in range(3)]
        >>> svi.steps
        3
    """

    def __init__(
        self,
        model: Fn,
        guide: Fn | None = None,
        optim: Any = None,
        loss: Any = None,
        loss_and_grads: Fn | None = None,
        *,
        store: ParamStore | None = None,
        compile: bool | Literal["auto"] = "auto",
    ) -> None:
        _check_program(model, guide)
        _check_loss(loss, loss_and_grads)
        if store is not None and not isinstance(store, ParamStore):
            raise InferenceTypeError(
                f"SVI: expected store as a ParamStore or None, got {type(store).__name__}; write "
                "store=ParamStore()"
            )
        if compile not in (True, False, "auto"):
            raise InferenceError(
                f"SVI: expected compile as True, False or 'auto', got {compile!r}; 'auto' compiles long runs"
            )
        self.model = model
        self.guide = _default_guide(model) if guide is None else guide
        self.optim = as_optimizer(optim)
        self.loss = Trace_ELBO() if loss is None else loss
        self.store = store
        if loss_and_grads is None and _has_own_gradients(self.loss):
            loss_and_grads = self.loss.loss_and_grads
        self._given_grads = loss_and_grads
        wants = compile == "auto" and getattr(self.loss, "wants_compile", False)
        self.compile: bool | Literal["auto"] = loss_and_grads is None and (True if wants else compile)
        self._compiled = CompiledStep(self)
        self.steps = 0
        self.history: list[float] = []
        #: Sites that the last eager step has visited, in guide and model.
        self.num_sites = 0
        self._known: frozenset[str] = frozenset()

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take one gradient step on all parameters that model and guide read.

        Nothing changes when the step fails: parameters, optimizer, handlers, gradients and random
        numbers are as before; after a loss that is not finite the random numbers
        have moved on, so that the next step draws afresh.

        Returns:
            The loss before the step, in nats.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite, naming the first bad site or
                parameter.
        """
        if self.compile is True:
            losses = self.steps_compiled(1, args, kwargs)
            if losses:
                return losses[0]
        # In a copy of the context, so that an interrupt inside an exit leaves no handler or setting behind.
        return copy_context().run(self._eager_step, args, kwargs)

    def steps_compiled(self, steps: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[float]:
        """Take up to ``steps`` steps in one compiled call; none where the next one has to be eager."""
        if torch.is_inference_mode_enabled():
            return []  # the eager step says so
        if self.store is None:
            losses = self._compiled.run(steps, args, kwargs)
        else:
            with using(self.store):
                losses = self._compiled.run(steps, args, kwargs)
        self.steps += len(losses)
        self.history += losses
        return losses

    def _eager_step(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        if torch.is_inference_mode_enabled():
            raise InferenceError(
                "SVI.step: expected gradients to be available, got torch.inference_mode(); leave it"
            )
        with self._guarded(), torch.enable_grad():
            seen, loss, grads = self.gradients_of(args, kwargs)
            value = self._check_finite(seen, loss, grads)
            self._update(seen.params, grads)
            moved = frozenset(n for n, g in zip(seen.params, grads, strict=True) if g is not None)
            self._compiled.eager_step_done(args, kwargs, moved)
        self.steps += 1
        self.num_sites = len(seen.sites)
        self.history.append(value)
        return value

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """Estimate the loss without a step; in nats."""
        with stack.restored(), self._scope(), torch.no_grad():
            if isinstance(self.loss, ELBO):
                return self.loss.loss(self.model, self.guide, *args, **kwargs)
            value = self.loss(self.model, self.guide, *args, **kwargs)
            return float(value if isinstance(value, float) else as_loss("loss", value))

    def run(
        self,
        num_steps: int,
        *args: Any,
        progress: bool = True,
        callback: Callable[[int, float], Any] | None = None,
        tol: float | None = None,
        compile: bool | Literal["auto"] | None = None,
        **kwargs: Any,
    ) -> pd.Series:
        """Take many steps, with a progress bar.

        Args:
            num_steps: how many, > 0.
            *args: for model and guide. A single ``DataLoader`` is gone through again and again,
                one batch a step.
            progress: show a bar with the loss.
            callback: called with the number of the step and its loss; a true result stops.
            tol: stop when the mean loss of 100 steps is within this fraction of that of the 100
                steps before.
            compile: in place of the SVI's own setting.
            **kwargs: for model and guide.

        Returns:
            The losses in nats, indexed by step.

        Raises:
            InferenceError: an argument is out of range.
        """
        settings = Settings(progress, callback, tol, self.compile if compile is None else compile)
        return train(self, num_steps, args, kwargs, settings)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, optimizer and random state to a file, so that training can go on.

        Raises:
            MissingFileError: the directory does not exist.
        """
        with self._scope():
            checkpoint.save(self, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read what :meth:`save` wrote and go on from there, bit for bit.

        Raises:
            FileFormatError: the file is damaged or of another kind; nothing has changed then.
        """
        with self._scope():
            checkpoint.load(self, path)

    def __reduce__(self) -> Any:
        raise InferenceTypeError(
            "SVI: expected to be saved by svi.save(path), got pickle or deepcopy, which can not keep the "
            "parameters and the optimizer together; save, make the SVI anew, and svi.load(path)"
        )

    @property
    def compile_counters(self) -> Any:
        """How often a step was traced, compiled, loaded from disk and given up; None before that."""
        return self._compiled.counters

    def _scope(self) -> Any:
        return using(self.store)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Run a step so that a failure leaves everything as it was."""
        with self._scope() as store:
            mark = store.mark()
            rng = RandomState()
            baselines = self.loss.state_dict() if isinstance(self.loss, ELBO) else None
            try:
                with stack.restored():
                    yield
            except BaseException as error:
                store.forget_since(mark)
                if baselines is not None:
                    self.loss.load_state_dict(baselines)
                if not isinstance(error, NonFiniteError):
                    rng.restore()
                raise

    def loss_and_grads(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> Any:
        """Estimate a loss and add its gradients to the ``.grad`` of the parameters, as given.

        Returns:
            What ``loss_and_grads`` of the loss, or the function given by that name, returns; in nats.

        Raises:
            InferenceTypeError: the loss is a function without gradients of its own.
        """
        given = self._given_grads or getattr(self.loss, "loss_and_grads", None)
        if given is None:
            raise InferenceTypeError(
                "SVI.loss_and_grads: expected a loss that adds gradients itself, got "
                f"{getattr(self.loss, '__name__', type(self.loss).__name__)}; call svi.step(*args), or "
                "loss(model, guide, *args).backward()"
            )
        with self._scope():
            return given(model, guide, *args, **kwargs)

    def gradients_of(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Observer, torch.Tensor, list[torch.Tensor | None]]:
        """Estimate loss and gradients without touching anything.

        Returns:
            What the run showed, the loss in nats of shape ``()``, and the gradient of each of
            ``seen.params``, None where the loss does not depend on it.
        """
        loss: Any = 0.0
        grads: list[torch.Tensor | None] = []
        if self._given_grads is not None:
            return taken(self._given_grads, self.model, self.guide, args, kwargs)
        with Observer() as seen:
            if not isinstance(self.loss, ELBO):
                value = as_loss("loss", self.loss(self.model, self.guide, *args, **kwargs))
                return seen, value.detach(), gradients(value, seen.params, grads)
            for share in self.loss.estimates(self.model, self.guide, args, kwargs):
                grads = gradients(share.surrogate, seen.params, grads)
                loss = loss + share.loss.detach()
        return seen, loss, grads

    def _check_finite(self, seen: Observer, loss: torch.Tensor, grads: list[torch.Tensor | None]) -> float:
        present = [g for g in grads if g is not None]
        if present:
            largest = _largest(present)
            value, bound = torch.stack([loss, largest.to(loss)]).cpu().tolist()
        else:
            value, bound = float(loss), 0.0
        if not math.isfinite(value):
            raise NonFiniteError(
                f"SVI.step: expected a finite loss, got {value}; {first_bad_site(seen.sites)}; parameters "
                "are unchanged: check the data and the initial values, or lower the learning rate"
            )
        if not math.isfinite(bound):
            bad = [n for n, g in zip(seen.params, grads, strict=True) if g is not None and not _is_finite(g)]
            raise NonFiniteError(
                f"SVI.step: expected finite gradients, got NaN or infinity for parameters {bad} at loss "
                f"{value}; parameters are unchanged: look for a division by zero or a root at zero behind "
                "them"
            )
        if seen.params.keys() != self._known:
            self._warn_cut_off(seen.params, grads)
        return value  # type: ignore[no-any-return]

    def _warn_cut_off(self, params: dict[str, torch.Tensor], grads: list[torch.Tensor | None]) -> None:
        cut = [
            name for name, grad in zip(params, grads, strict=True) if grad is None and name not in self._known
        ]
        self._known = frozenset(params)
        if cut:
            warnings.warn(
                f"SVI: expected a loss that depends on every parameter, got no gradient for {cut}; look for "
                "a detach() or .item() between the parameter and the sites",
                BrancherWarning,
                stacklevel=5,
            )

    def _update(self, params: dict[str, torch.Tensor], grads: list[torch.Tensor | None]) -> None:
        self.optim.bind(params)
        kept = [leaf.grad for leaf in params.values()]
        try:
            for leaf, grad in zip(params.values(), grads, strict=True):
                leaf.grad = grad
            self.optim.step()
        finally:
            for leaf, before in zip(params.values(), kept, strict=True):
                leaf.grad = before


def _check_program(model: Any, guide: Any) -> None:
    for role, fn in (("model", model), ("guide", guide)):
        if not callable(fn) and not (role == "guide" and fn is None):
            raise InferenceTypeError(
                f"SVI: expected {role} as a function, got {type(fn).__name__}; write SVI(model, guide, optim)"
            )
    if isinstance(guide, (type, Optimizer)):
        got = f"the class {guide.__name__}" if isinstance(guide, type) else "an optimizer"
        raise InferenceTypeError(
            f"SVI: expected guide as a function or an instance, got {got}; write "
            "SVI(model, AutoNormal(model), optim)"
        )


def _check_loss(loss: Any, loss_and_grads: Any) -> None:
    if isinstance(loss, type):
        raise InferenceTypeError(
            f"SVI: expected loss as an instance, got the class {loss.__name__}: loss must be an "
            f"instance; write {loss.__name__}()"
        )
    if loss is not None and not callable(loss):
        raise InferenceTypeError(
            f"SVI: expected loss as an ELBO or a function, got {type(loss).__name__}; write Trace_ELBO()"
        )
    if loss_and_grads is not None and not callable(loss_and_grads):
        raise InferenceTypeError(
            f"SVI: expected loss_and_grads as a function, got {type(loss_and_grads).__name__}; write "
            "Trace_ELBO().loss_and_grads"
        )


def _has_own_gradients(loss: Any) -> bool:
    """Whether an ELBO of a user's own overrides how its gradients come about."""
    names = ("loss_and_grads", "differentiable_loss")
    return isinstance(loss, ELBO) and any(getattr(type(loss), n) is not getattr(ELBO, n) for n in names)


def _largest(grads: list[torch.Tensor]) -> torch.Tensor:
    """The largest absolute entry of all gradients, shape ``()``."""
    first = grads[0]
    alike = all(g.dtype == first.dtype and g.device == first.device and g.numel() <= SMALL for g in grads)
    if not alike:
        return torch.nn.utils.get_total_norm(grads, norm_type=math.inf)
    # Copies of small gradients cost less than a norm for each.
    largest: torch.Tensor = torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in grads]), math.inf)
    return largest


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _default_guide(model: Fn) -> Fn:
    from brancher.infer.autoguide import AutoNormal

    return AutoNormal(model)
