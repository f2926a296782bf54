"""``SMCFilter``: particles that follow a hidden state through time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from brancher.distributions import Empirical
from brancher.errors import InferenceError, InferenceTypeError, SMCFailed
from brancher.handlers import Message, Trace, block, stack
from brancher.handlers.density import score
from brancher.infer.checks import check_pair
from brancher.infer.draws import check_count
from brancher.infer.pairing import paired_traces
from brancher.infer.particles import particle_plate

__all__ = ["SMCFailed", "SMCFilter", "SMCState"]


class SMCState(dict[Any, Tensor]):
    """What a model remembers from one time step to the next: tensors whose leftmost dimension is particles.

    Args:
        num_particles: how many.

    Attributes:
        log_weights: of the particles, in nats, normalised; shape (num_particles,).
    """

    def __init__(self, num_particles: int) -> None:
        super().__init__()
        self.num_particles = num_particles
        self.log_weights = torch.full((num_particles,), -math.log(num_particles))
        self._is_locked = False

    def __setitem__(self, key: Any, value: Tensor) -> None:
        if self._is_locked:
            raise InferenceError(
                f"SMCState '{key}': expected a guide that reads the state, got one that writes; let the "
                "model write it"
            )
        if not isinstance(value, Tensor):
            raise InferenceTypeError(
                f"SMCState '{key}': expected a tensor, got {type(value).__name__}; keep other things outside"
            )
        if value.dim() == 0 or value.shape[0] != self.num_particles:
            raise InferenceError(
                f"SMCState '{key}': expected a tensor whose first dimension is the {self.num_particles} "
                f"particles, got shape {tuple(value.shape)}; keep what all particles share outside"
            )
        super().__setitem__(key, value)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse writing inside the block."""
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False

    def resample(self) -> None:
        """Draw particles by their weights, which are equal then; systematic, to keep many apart."""
        count = self.num_particles
        edges = self.log_weights.exp().cumsum(0)
        points = (torch.arange(count) + torch.rand(())).to(edges) / count
        index = torch.searchsorted(edges / edges[-1], points).clamp(max=count - 1)
        for key, value in self.items():
            super().__setitem__(key, value[index.to(value.device)])
        self.log_weights = torch.full_like(self.log_weights, -math.log(count))


class SMCFilter:
    """Sequential importance sampling with resampling.

    Doucet & Johansen 2009, "A tutorial on particle filtering and smoothing", section 3.5.

    Model and guide are objects with methods ``init(state, ...)`` and ``step(state, ...)``. The model keeps in
    ``state`` what a later step needs; the guide only reads it. Both may run many particles at once: a site
    outside of plates has shape (num_particles, 1, ..., 1) with ``max_plate_nesting`` ones.

    Args:
        model: the model.
        guide: the proposal of each step's latent sites.
        num_particles: how many, > 0.
        max_plate_nesting: batch dimensions that the plates of a step use.
        ess_threshold: particles are drawn anew where their effective number falls below this share, in
            (0, 1].

    Attributes:
        state: the :class:`SMCState` now.
        log_evidence: estimate of the log-density of all data so far in nats, shape (); unbiased on the
            scale of the density.

    Raises:
        InferenceError: a number is out of range.
        InferenceTypeError: model or guide lack a method.

    Example:
        >>> from brancher.infer import SMCFilter
        >>> class Walk:
        ...     def init(self, state):
        ...         state["z"] = sample("z", dist.Normal(0.0, 1.0))
        ...     def step(self, state, y=None):
        ...         state["z"] = sample("z", dist.Normal(state["z"], 1.0))
        ...         sample("y", dist.Normal(state["z"], 1.0), obs=y)
        >>> class Guess(Walk):
        ...     def init(self, state):
        ...         sample("z", dist.Normal(0.0, 1.0))
        ...     def step(self, state, y=None):
        ...         sample("z", dist.Normal(state["z"], 1.0))
        >>> smc = SMCFilter(Walk(), Guess(), num_particles=50)
        >>> smc.init()
        >>> smc.step(torch.tensor(0.5))
        >>> smc.get_empirical()["z"].mean.shape
        torch.Size([])
    """

    def __init__(
        self,
        model: Any,
        guide: Any,
        num_particles: int,
        max_plate_nesting: int = 0,
        *,
        ess_threshold: float = 0.5,
    ) -> None:
        check_count("SMCFilter", "num_particles", num_particles)
        for role, program in (("model", model), ("guide", guide)):
            lacking = [name for name in ("init", "step") if not callable(getattr(program, name, None))]
            if lacking:
                raise InferenceTypeError(
                    f"SMCFilter: expected {role} as an object with methods init and step, got "
                    f"{type(program).__name__} without {lacking}; write both as methods of a class"
                )
        if not 0 < ess_threshold <= 1:
            raise InferenceError(
                f"SMCFilter: expected ess_threshold in (0, 1], got {ess_threshold}; 0.5 is usual"
            )
        self.model, self.guide = model, guide
        self.num_particles, self.max_plate_nesting = num_particles, max_plate_nesting
        self.ess_threshold = ess_threshold
        self.state = SMCState(num_particles)
        self.log_evidence = torch.zeros(())

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Begin anew, with the arguments of the ``init`` methods.

        Raises:
            GuideError: guide and model differ in their latent sites.
            SMCFailed: no particle is possible.
        """
        self.state, self.log_evidence = SMCState(self.num_particles), torch.zeros(())
        self._advance(self.model.init, self.guide.init, args, kwargs)

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Go on by one time step, with the arguments of the ``step`` methods.

        Raises:
            GuideError: guide and model differ in their latent sites.
            SMCFailed: no particle is possible any more; the state is as before.
        """
        self._advance(self.model.step, self.guide.step, args, kwargs)

    def get_empirical(self) -> dict[Any, Empirical]:
        """Each tensor of the state as a weighted law over its particles."""
        return {key: Empirical(value, self.state.log_weights) for key, value in self.state.items()}

    @property
    def effective_sample_size(self) -> Tensor:
        """1 / sum w^2, shape ()."""
        return (-(2.0 * self.state.log_weights).logsumexp(0)).exp()

    @stack.restored()
    def _advance(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        before, state = dict(self.state), self.state

        def reading(*args: Any, **kwargs: Any) -> Any:
            with state.locked():
                return guide(*args, **kwargs)

        try:
            with torch.no_grad(), block(), particle_plate(self.num_particles, self.max_plate_nesting):
                model_trace, guide_trace = paired_traces(model, reading, (state, *args), kwargs)
                check_pair(model_trace, guide_trace)
                weights = state.log_weights + self._added(model_trace, guide_trace)
        except BaseException:
            state.clear()
            state.update(before)
            raise
        total = weights.logsumexp(0)
        self.log_evidence = self.log_evidence + total
        state.log_weights = weights - total
        if float(self.effective_sample_size) < self.ess_threshold * self.num_particles:
            state.resample()

    def _added(self, model_trace: Trace, guide_trace: Trace) -> Tensor:
        added = torch.zeros(self.num_particles)
        for sign, record in ((-1.0, guide_trace), (1.0, model_trace)):
            for site in record.scored():
                added = added + sign * self._by_particle(site)
                if not bool((added > -math.inf).any()):
                    raise SMCFailed(
                        f"SMCFilter: expected a particle that the model allows, got density 0 for all "
                        f"{self.num_particles} at site '{site.name}'; use more particles or a wider guide"
                    )
        return added

    def _by_particle(self, site: Message) -> Tensor:
        log_prob = score(site)
        if log_prob.dim() <= self.max_plate_nesting:  # the same for all
            return log_prob.sum().expand(self.num_particles)
        return log_prob.reshape(self.num_particles, -1).sum(1)
