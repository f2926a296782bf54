"""``TraceEnum_ELBO``: the evidence lower bound with discrete sites summed out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from queue import LifoQueue
from typing import Any

import torch

from brancher.distributions.validation import is_validating, validation_enabled
from brancher.errors import InferenceError
from brancher.handlers import Message, Trace, block, enum, queue, replay, trace
from brancher.handlers.enum import value_dims
from brancher.infer.checks import check_model_trace, check_pair
from brancher.infer.elbo.elbo import ELBO, Estimate, check_pyro_options
from brancher.infer.enumeration.discrete import infer_discrete
from brancher.infer.enumeration.elimination import sum_out
from brancher.infer.enumeration.expectation import expected
from brancher.infer.enumeration.marginals import marginals
from brancher.infer.enumeration.sites import homes_of, term_of, terms_of
from brancher.infer.pairing import paired_traces
from brancher.infer.particles import particle_plate
from brancher.infer.replicate import lay_out

Fn = Callable[..., Any]


class TraceEnum_ELBO(ELBO):  # noqa: N801
    """Estimate the negative ELBO with sums over the discrete sites that are marked for it.

    Marked sites of the model that the guide lacks are summed out: their density becomes the marginal
    one. Marked sites of the guide are averaged over, weighted by their probabilities, instead of drawn.
    Sites are marked by ``infer={"enumerate": "parallel"}`` or, in a guide that branches on their values,
    ``"sequential"``; :func:`config_enumerate` marks all. Sums go by variable elimination (Obermeyer et
    al. 2019, arXiv:1902.03210); ``markov`` loops cost one step after the other. Other sites have
    pathwise gradients, or score-function ones without a baseline (Foerster et al. 2018,
    arXiv:1802.05098).

    Args:
        num_particles: draws of the other sites averaged in one step, > 0.
        max_plate_nesting: batch dimensions that the plates use; found if not given.
        vectorize_particles: see :class:`ELBO`.

    Raises:
        GuideError: guide and model differ in the latent sites that are not summed out.
        InferenceError: plates and dependencies cross, so that a sum has too many terms.

    Example:
        >>> from brancher.infer import TraceEnum_ELBO, config_enumerate
        >>> @config_enumerate
        ... def model():
        ...     z = sample("z", dist.Bernoulli(0.25))
        ...     sample("x", dist.Bernoulli(0.8 * z), obs=torch.tensor(1.0))
        >>> loss = TraceEnum_ELBO().loss(model, lambda: None)
        >>> bool(torch.isclose(torch.tensor(-loss).exp(), torch.tensor(0.2)))
        True
    """

    #: Whether sites may have draws instead of all values.
    allow_draws = False

    def __init__(
        self,
        num_particles: int = 1,
        max_plate_nesting: int | float | None = None,
        vectorize_particles: bool | None = None,
        **pyro_options: Any,
    ) -> None:
        check_pyro_options(self, pyro_options)
        super().__init__(num_particles, max_plate_nesting, vectorize_particles)
        self._nestings: dict[tuple[int, int], tuple[Any, int]] = {}

    def estimates(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Estimate]:
        """Run guide and model and yield shares of the loss."""
        is_checked = is_validating() and self._first_sight.is_new(model, guide, args, kwargs)
        with validation_enabled(is_checked):
            vectorized, _ = self._plan(model, guide, args, kwargs)
        nesting = self._nesting(model, guide, args, kwargs)
        repeats = 1 if vectorized else self.num_particles
        size = self.num_particles if vectorized else 1
        for _ in range(repeats):
            todo: LifoQueue[Trace] = LifoQueue()
            todo.put(Trace())
            while not todo.empty():
                with validation_enabled(is_checked):
                    with particle_plate(size, nesting) if vectorized else nullcontext():
                        pair = self._pair(todo, model, guide, args, kwargs, -1 - nesting - vectorized)
                    share = self._checked(*pair, size)
                yield Estimate(share.loss / repeats, share.surrogate / repeats)
            is_checked = False
        self._first_sight.seen(model, guide, args, kwargs)

    def _nesting(self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        if self.max_plate_nesting is not None:
            return int(self.max_plate_nesting)
        key = (id(model), id(guide))
        if key not in self._nestings:
            layout = lay_out(lambda: paired_traces(model, guide, args, kwargs), {})
            self._nestings[key] = (model, guide), layout.nesting
        return self._nestings[key][1]

    def _pair(
        self,
        todo: LifoQueue[Trace],
        model: Fn,
        guide: Fn,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        first_dim: int,
    ) -> tuple[Trace, Trace]:
        """Traces of model and guide for the next values of the guide's sequential sites."""
        drawn = self.allow_draws
        each = queue(
            enum(guide, first_available_dim=first_dim, allow_draws=drawn), queue=todo, escape_fn=_is_next
        )
        guide_trace = trace(each).get_trace(*args, **kwargs)
        given = {site.name: value_dims(site) for site in guide_trace.sites("sample") if not site.is_observed}
        leftmost = min([first_dim + 1, *(dim for dims in given.values() for dim in dims)])
        replayed = replay(model, trace=guide_trace)
        summed = enum(
            replayed,
            first_available_dim=leftmost - 1,
            also_sequential=True,
            given=given,
            allow_draws=drawn,
        )
        return trace(summed).get_trace(*args, **kwargs), guide_trace

    def _checked(self, model_trace: Trace, guide_trace: Trace, size: int) -> Estimate:
        if is_validating():
            check_pair(model_trace, guide_trace)
            check_model_trace(guide_trace, "guide")
            check_model_trace(model_trace, "model")
        return self.estimate(model_trace, guide_trace, size)

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> Estimate:
        """Sum the model's own variables out and average over the guide's."""
        homes = homes_of(model_trace, guide_trace)
        own = frozenset(homes) - {site.name for site in guide_trace.sites("sample")}
        log_p = sum_out(list(terms_of(model_trace.scored()).values()), homes, own)
        guide_sites = list(guide_trace.scored())
        total: Any = 0.0
        for term in log_p:
            total = total - expected(term, guide_sites, len(guide_sites))
        for number, site in enumerate(guide_sites):
            total = total + expected(term_of(site), guide_sites, number + 1)
        loss = torch.as_tensor(total) / num_particles
        return Estimate(loss, loss)

    def compute_marginals(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Exact posteriors of the model's summed-out sites, given a draw of the guide.

        Returns:
            Distributions by site: Bernoulli or OneHotCategorical where the prior is one, else a
            Categorical over the positions in the support.

        Raises:
            InferenceError: the guide has enumerated sites, or draws several particles.
        """
        if self.num_particles != 1:
            raise InferenceError("compute_marginals: expected num_particles=1, got more; make an ELBO for it")
        nesting = self._nesting(model, guide, args, kwargs)
        todo: LifoQueue[Trace] = LifoQueue()
        todo.put(Trace())
        with torch.no_grad():
            model_trace, guide_trace = self._pair(todo, model, guide, args, kwargs, -1 - nesting)
        if homes_of(guide_trace) or not todo.empty():
            raise InferenceError("compute_marginals: expected a guide without enumerated sites, got some")
        return marginals(model_trace)

    def sample_posterior(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> Any:
        """Run the model on a draw of the guide, with its summed-out sites drawn from their joint posterior.

        Returns:
            What the model returns; ``handlers.trace`` around the call sees the sites.

        Raises:
            InferenceError: the guide has enumerated sites, or the ELBO draws several particles.
        """
        if self.num_particles != 1:
            raise InferenceError("sample_posterior: expected num_particles=1, got more; make an ELBO for it")
        with torch.no_grad(), block():
            nesting = self._nesting(model, guide, args, kwargs)
            drawn = trace(guide).get_trace(*args, **kwargs)
        if any(site.infer.get("enumerate") for site in drawn.sites("sample") if not site.is_observed):
            raise InferenceError("sample_posterior: expected a guide without enumerated sites, got some")
        with torch.no_grad():
            return infer_discrete(replay(model, trace=drawn), -1 - nesting, 1)(*args, **kwargs)


def _is_next(record: Trace, site: Message) -> bool:
    """Whether a run ends at a site, to go on with each of its values."""
    if site.is_observed or site.value is not None or site.infer.get("enumerate") != "sequential":
        return False
    return site.name not in record and not any(frame.dim is not None for frame in site.frames)
