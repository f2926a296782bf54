"""``Trace_MMD``: the evidence lower bound with another distance between posterior and prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from brancher.distributions.validation import validation_enabled
from brancher.errors import InferenceError, InferenceTypeError, nearest
from brancher.handlers import Message, Trace, trace
from brancher.infer.elbo.elbo import ELBO, Estimate, check_pyro_options
from brancher.infer.elbo.renyi import per_particle
from brancher.infer.particles import PARTICLES

Fn = Callable[..., Any]
Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Trace_MMD(ELBO):  # noqa: N801
    """Minus the expected log-likelihood, plus the maximum mean discrepancy of guide and prior.

    ``-E_q log p(x | z) + sum_s mmd_scale_s MMD^2(q(z_s), p(z_s))``: the loss of an InfoVAE (Zhao et al.
    2017, arXiv:1706.02262, section 4). The discrepancy is estimated by means of the kernel over all pairs
    of draws (Gretton et al. 2012, eq. 5); particles are the points, all other dimensions of a site their
    coordinates.

    Args:
        kernel: a function of points (n, d) and (m, d) that returns their kernel, (n, m); or such functions
            by site.
        mmd_scale: weight of the discrepancy, >= 0; or weights by site.
        num_particles: draws in one step; > 0, and better many.
        max_plate_nesting: see :class:`Trace_ELBO`.
        vectorize_particles: see :class:`Trace_ELBO`.

    Raises:
        InferenceError: an argument is out of range; or, at a step, a site has no pathwise gradient, no
            kernel or no weight, or a kernel returns another shape.
        InferenceTypeError: the kernel is no function.

    Example:
        >>> from brancher.infer import SVI, Trace_MMD
        >>> def kernel(x, y):
        ...     return (-torch.cdist(x, y).square() / x.shape[1]).exp()
        >>> def model(y):
        ...     z = sample("z", dist.Normal(0.0, 1.0))
        ...     with plate("row", len(y)):
        ...         sample("y", dist.Normal(z, 1.0), obs=y)
        >>> SVI(model, loss=Trace_MMD(kernel, mmd_scale=10.0)).step(torch.ones(3)) > 0
        True
    """

    def __init__(
        self,
        kernel: Kernel | Mapping[str, Kernel],
        mmd_scale: float | Mapping[str, float] = 1.0,
        num_particles: int = 10,
        max_plate_nesting: int | float | None = None,
        vectorize_particles: bool | None = None,
        **pyro_options: Any,
    ) -> None:
        check_pyro_options(self, pyro_options)
        super().__init__(num_particles, max_plate_nesting, vectorize_particles)
        for each in kernel.values() if isinstance(kernel, Mapping) else [kernel]:
            if not callable(each):
                raise InferenceTypeError(
                    f"Trace_MMD: expected kernel as a function of points (n, d) and (m, d), got "
                    f"{type(each).__name__}; write kernel=lambda x, y: (-torch.cdist(x, y).square()).exp()"
                )
        for weight in mmd_scale.values() if isinstance(mmd_scale, Mapping) else [mmd_scale]:
            is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not is_number or not 0 <= weight < math.inf:
                raise InferenceError(
                    f"Trace_MMD: expected mmd_scale as a number >= 0, got {weight!r}; 1 is usual"
                )
        self.kernel, self.mmd_scale = kernel, mmd_scale

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> _Run:
        """Log-likelihood and draws of one run."""
        latent = [
            site for site in model_trace.sites("sample") if not site.is_observed and site.name in guide_trace
        ]
        for site in latent:
            for who, law in (("model", site.fn), ("guide", guide_trace[site.name].fn)):
                if not law.has_rsample:
                    raise InferenceError(
                        f"Trace_MMD: expected sites with pathwise gradients, got site '{site.name}' of the "
                        f"{who} without; use Trace_ELBO"
                    )
        names = {site.name for site in latent}
        others = [site for site in model_trace.scored() if site.name not in names]
        return _Run(per_particle(others, num_particles), latent)

    def estimates(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Estimate]:
        """Join the particles of all runs, and compare them with as many of the prior."""
        runs = list(self.runs(model, guide, args, kwargs))
        prior = [self._prior(model, guide, args, kwargs) for _ in runs]
        loss = -torch.cat([run.log_likelihood for run in runs]).mean()
        for name in [site.name for site in runs[0].latent]:
            guided = [_points(site) for run in runs for site in run.latent if site.name == name]
            free = [_points(record[name]) for record in prior]
            distance = mmd(self._of(self.kernel, "kernel", name), torch.cat(guided), torch.cat(free), name)
            loss = loss + self._of(self.mmd_scale, "mmd_scale", name) * distance
        yield Estimate(loss, loss)

    def _prior(self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
        # The model has been checked where it was run with the guide.
        with validation_enabled(False), self.particles(model, guide, args, kwargs):
            return trace(model).get_trace(*args, **kwargs)

    def _of(self, given: Any, option: str, name: str) -> Any:
        """What is given for a site."""
        if not isinstance(given, Mapping):
            return given
        if name not in given:
            raise InferenceError(
                f"Trace_MMD: expected {option} for site '{name}', got it for {sorted(given)}"
                f"{nearest(name, given) or '; add it'}"
            )
        return given[name]


class _Run(NamedTuple):
    """One run of guide and model.

    Attributes:
        log_likelihood: of what is no latent site, shape (particles of the run,).
        latent: the latent sites of the model, at the guide's draws.
    """

    log_likelihood: torch.Tensor
    latent: list[Message]


def mmd(kernel: Kernel, x: torch.Tensor, y: torch.Tensor, name: str) -> torch.Tensor:
    """Squared maximum mean discrepancy of two sets of points; the biased estimate, which is never negative.

    Args:
        kernel: of points (n, d) and (m, d).
        x: points, shape (n, d).
        y: points, shape (m, d).
        name: the site, for messages.

    Returns:
        Shape ().

    Raises:
        InferenceError: the kernel returns another shape.
    """
    total = x.new_zeros(())
    for a, b, times in ((x, x, 1.0), (y, y, 1.0), (x, y, -2.0)):
        values = kernel(a, b)
        if tuple(values.shape) != (len(a), len(b)):
            raise InferenceError(
                f"Trace_MMD: expected the kernel of site '{name}' to return shape {(len(a), len(b))}, got "
                f"{tuple(values.shape)}; it takes points (n, d) and (m, d)"
            )
        total = total + times * values.mean()
    return total


def _points(site: Message) -> torch.Tensor:
    """A site's draws, one particle a row."""
    dim = next((frame.dim for frame in site.frames if frame.name == PARTICLES), None)
    value: torch.Tensor = site.value
    if dim is None:
        return value.reshape(1, -1)
    value = value.movedim(dim - len(site.fn.event_shape), 0)
    return value.reshape(len(value), -1)
