"""``EnergyDistance``: fit what a model predicts to data, without the density of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from brancher.distributions import Distribution, constraints
from brancher.distributions.shapes import Size, broadcast_shapes
from brancher.errors import InferenceError
from brancher.handlers import Message, Messenger, Trace
from brancher.handlers.density import mask_of
from brancher.infer.elbo.elbo import ELBO, Estimate
from brancher.infer.elbo.renyi import per_particle
from brancher.infer.elbo.trace_elbo import needs_score_function
from brancher.infer.particles import PARTICLES

Fn = Callable[..., Any]


class EnergyDistance(ELBO):
    """Fit the posterior predictive law to the data by the energy distance.

    ``mean |X - x|^beta - mean |X - X'|^beta / 2 - prior_scale mean log p(Z)``, where ``Z`` and ``Z'`` are
    draws of the guide, ``X`` and ``X'`` what the model then draws at its observed sites, and ``x`` the
    data: all observed sites joined into one vector, whose squared entries count by the scale and mask of
    their site (Székely & Rizzo 2013; Gneiting & Raftery 2007, eq. 22). Densities of the data are never
    asked for, so simulators will do. The first two terms are a strictly proper score for laws with
    ``E |X|^beta`` finite; take ``beta < 1`` for tails like Cauchy's.

    The data are one draw of one law here: what is fitted is the law of predictions, not a posterior.

    Args:
        beta: exponent of the distance, in (0, 2).
        prior_scale: weight of the prior's log-density of the guide's draws, >= 0.
        num_particles: draws of the guide in one step, > 1.
        max_plate_nesting: see :class:`Trace_ELBO`.
        vectorize_particles: see :class:`Trace_ELBO`.

    Raises:
        InferenceError: an argument is out of range; or, at a step, a site of the guide or an observed one
            has no pathwise gradient, or nothing is observed.

    Example:
        >>> from brancher.infer import SVI, EnergyDistance
        >>> def model(y):
        ...     rate = sample("rate", dist.LogNormal(0.0, 1.0))
        ...     with plate("row", len(y)):
        ...         sample("y", dist.Exponential(rate), obs=y)
        >>> svi = SVI(model, loss=EnergyDistance(num_particles=10))
        >>> svi.step(torch.ones(3)) > 0
        True
    """

    def __init__(
        self,
        beta: float = 1.0,
        prior_scale: float = 0.0,
        num_particles: int = 2,
        max_plate_nesting: int | float | None = None,
        vectorize_particles: bool | None = None,
    ) -> None:
        super().__init__(num_particles, max_plate_nesting, vectorize_particles)
        if num_particles == 1:
            raise InferenceError(
                "EnergyDistance: expected num_particles > 1, got 1; pairs are compared: give 2"
            )
        if not _is_number(beta) or not 0 < beta < 2:
            raise InferenceError(f"EnergyDistance: expected beta in (0, 2), got {beta!r}; 1 is usual")
        if not _is_number(prior_scale) or not 0 <= prior_scale < float("inf"):
            raise InferenceError(
                f"EnergyDistance: expected prior_scale as a number >= 0, got {prior_scale!r}; 0 leaves it out"
            )
        self.beta, self.prior_scale = float(beta), float(prior_scale)
        self._predicting: dict[int, tuple[Fn, Fn]] = {}

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> _Run:
        """Predictions and data of one run, and the prior's log-density of its draws."""
        for site in guide_trace.scored():
            if needs_score_function(site):
                raise InferenceError(
                    f"EnergyDistance: expected guide sites with pathwise gradients, got site '{site.name}' "
                    "without; use Trace_ELBO"
                )
        observed = [site for site in model_trace.sites("sample") if _PREDICTED in site.infer]
        if not observed:
            raise InferenceError(
                "EnergyDistance: expected observed sites, got a model without; give one its data with obs="
            )
        pairs = [_compared(site, num_particles) for site in observed]
        predicted, data = (torch.cat(rows, 1) for rows in zip(*pairs, strict=True))
        latent = [site for site in model_trace.sites("sample") if not site.is_observed]
        return _Run(predicted, data, per_particle(latent, num_particles) if self.prior_scale else None)

    def estimates(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Estimate]:
        """Join the particles of all runs into the one distance."""
        # The pair is kept with the wrapped model: an id is only unique while its object lives.
        _, predicting = self._predicting.setdefault(id(model), (model, _Predicting(model)))
        runs = list(self.runs(predicting, guide, args, kwargs))
        predicted = torch.cat([run.predicted for run in runs])
        first, second = torch.tril_indices(len(predicted), len(predicted), -1, device=predicted.device)
        spread = self._distance(predicted[first] - predicted[second])
        loss = self._distance(predicted - runs[0].data) - spread / 2
        if self.prior_scale:
            loss = loss - self.prior_scale * torch.cat([run.log_prior for run in runs]).mean()
        yield Estimate(loss, loss)

    def _distance(self, difference: torch.Tensor) -> torch.Tensor:
        """Mean length of rows to the power beta; rows of length 0 have no gradient."""
        square = difference.square().sum(1)
        is_apart = square > 0
        power = torch.where(is_apart, square, 1.0).pow(self.beta / 2)
        return torch.where(is_apart, power, 0.0).mean()

    def __call__(self, model: Fn, guide: Fn, *args: Any, **kwargs: Any) -> Any:
        """The loss as a tensor with a gradient, as in Pyro; see :meth:`differentiable_loss`."""
        return self.differentiable_loss(model, guide, *args, **kwargs)


class _Run(NamedTuple):
    """One run of guide and model.

    Attributes:
        predicted: all observed sites as the model draws them, shape (particles of the run, n).
        data: the data in their place, shape (1, n).
        log_prior: of the guide's draws by particle; None where it does not count.
    """

    predicted: torch.Tensor
    data: torch.Tensor
    log_prior: Any


#: Where a predicted site keeps its data.
_PREDICTED = "_data"


class _Predicting(Messenger):
    """Draws observed sites like latent ones, and shows them as observed in the trace."""

    def process_message(self, message: Message) -> None:
        if message.type != "sample" or not message.is_observed:
            return
        if not message.fn.has_rsample:
            raise InferenceError(
                f"site '{message.name}': expected an observed law with pathwise gradients, got "
                f"{type(message.fn).__name__}; use Trace_ELBO"
            )
        message.fn, message.infer[_PREDICTED] = _Simulator(message.fn), message.value
        message.value, message.is_observed, message.done = None, False, False

    def postprocess_message(self, message: Message) -> None:
        if _PREDICTED in message.infer:
            message.is_observed = True


class _Simulator(Distribution):
    """A law to draw from, whose density is never asked for.

    Args:
        base_dist: the law; draws carry gradients.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, base_dist: Any) -> None:
        self.base_dist = base_dist
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        return self.base_dist.support

    def expand(self, batch_shape: Size, _instance: Any = None) -> Distribution:
        return _Simulator(self.base_dist.expand(torch.Size(batch_shape)))

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        drawn: torch.Tensor = self.base_dist.rsample(torch.Size(sample_shape))
        return drawn

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Zero for every row."""
        rows = value.shape[: value.dim() - len(self.event_shape)]
        return value.new_zeros(broadcast_shapes(rows, self.batch_shape))


def _compared(site: Message, num_particles: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What was drawn at a site, shape (num_particles, n), and its data, shape (1, n), as they count."""
    value, event_dim = site.value, len(site.fn.event_shape)
    data = torch.as_tensor(site.infer[_PREDICTED], dtype=value.dtype, device=value.device)
    batch = value.shape[: value.dim() - event_dim]
    weight = torch.as_tensor(site.scale, dtype=value.dtype, device=value.device)
    mask = mask_of(site)
    if mask is not None:
        weight = torch.where(torch.as_tensor(mask, device=value.device), weight, 0.0)
    weight = weight.expand(batch).reshape(batch + (1,) * event_dim).sqrt()
    dim = next((frame.dim for frame in site.frames if frame.name == PARTICLES), None)

    def as_rows(entries: torch.Tensor) -> torch.Tensor:
        counted = torch.where(weight > 0, entries, 0.0) * weight
        if dim is None:
            return counted.reshape(1, -1)
        return counted.movedim(dim - event_dim, 0).reshape(num_particles, -1)

    return as_rows(value), as_rows(data.expand(value.shape))[:1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
