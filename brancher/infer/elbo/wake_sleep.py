"""``ReweightedWakeSleep``: learn a model by importance weights, and its guide by what the model does."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from brancher.errors import InferenceError
from brancher.handlers import Message, Messenger, Trace, replay, trace, uncondition
from brancher.infer.draws import check_count
from brancher.infer.elbo.elbo import ELBO, Estimate, check_pyro_options
from brancher.infer.elbo.renyi import per_particle

Fn = Callable[..., Any]


class ReweightedWakeSleep(ELBO):
    """Reweighted wake-sleep, for models with discrete sites that are too many to sum over.

    Bornschein & Bengio 2015, arXiv:1406.2751, section 3; Le et al. 2019, arXiv:1805.10469, eq. 4-7. The
    loss is minus the importance-weighted bound, with draws of the guide that carry no gradient. The model's
    parameters follow its gradient. The guide's follow a mix of two: the *wake* gradient raises the density
    of draws by their weights, the *sleep* gradient the density of latent values that the model dreams up
    along with its data.

    For the sleep part, guides of models with data are called with ``observations={name: value}``, the data
    of the dream; see the example.

    Args:
        num_particles: draws of the guide that are weighed against each other, > 1.
        insomnia: share of the wake part in the guide's gradient, from 0 to 1.
        model_has_params: whether the model learns as well.
        num_sleep_particles: dreams a step; as many as ``num_particles`` for None.
        vectorize_particles: see :class:`Trace_ELBO`.
        max_plate_nesting: see :class:`Trace_ELBO`.

    Raises:
        InferenceError: an argument is out of range; or a guide can not take ``observations``.

    Example:
        >>> from brancher.infer import SVI, ReweightedWakeSleep
        >>> def model(observations):
        ...     z = sample("z", dist.Bernoulli(0.3))
        ...     sample("x", dist.Normal(2.0 * z, 1.0), obs=observations["x"])
        >>> def guide(observations):
        ...     slope = param("slope", torch.tensor(0.0))
        ...     sample("z", dist.Bernoulli(logits=slope * observations["x"]))
        >>> svi = SVI(model, guide, loss=ReweightedWakeSleep(num_particles=5, insomnia=0.5))
        >>> svi.step(observations={"x": torch.tensor(1.5)}) > 0
        True
    """

    def __init__(
        self,
        num_particles: int = 2,
        insomnia: float = 1.0,
        model_has_params: bool = True,
        num_sleep_particles: int | None = None,
        vectorize_particles: bool | None = None,
        max_plate_nesting: int | float | None = None,
        **pyro_options: Any,
    ) -> None:
        check_pyro_options(self, pyro_options)
        super().__init__(num_particles, max_plate_nesting, vectorize_particles)
        check_count("ReweightedWakeSleep", "num_sleep_particles", num_sleep_particles)
        if num_particles == 1:
            raise InferenceError(
                "ReweightedWakeSleep: expected num_particles > 1, got 1; the only weight would be 1: give 10"
            )
        if not 0.0 <= insomnia <= 1.0:
            raise InferenceError(
                f"ReweightedWakeSleep: expected insomnia in [0, 1], got {insomnia}; 1 is usual"
            )
        self.insomnia, self.model_has_params = float(insomnia), model_has_params
        self.num_sleep_particles = num_particles if num_sleep_particles is None else num_sleep_particles
        self._asleep: dict[int, tuple[Fn, Fn]] = {}

    def estimate(self, model_trace: Trace, guide_trace: Trace, num_particles: int) -> _Run:
        """Log-densities of one run."""
        log_p = per_particle(model_trace.scored(), num_particles)
        return _Run(log_p, per_particle(guide_trace.scored(), num_particles))

    def estimates(
        self, model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Estimate]:
        """Join the particles of all runs into the one loss, and dream."""
        # The pair is kept with the wrapped guide: an id is only unique while its object lives.
        _, drawing = self._asleep.setdefault(id(guide), (guide, _WithoutGradient(guide)))
        runs = list(self.runs(model, drawing, args, kwargs))
        log_p, log_q = torch.cat([run.log_p for run in runs]), torch.cat([run.log_q for run in runs])
        log_weight = log_p - log_q.detach()
        loss = math.log(self.num_particles) - log_weight.logsumexp(0)
        surrogate = loss if self.model_has_params else loss.detach()
        if self.insomnia > 0.0:
            surrogate = surrogate - self.insomnia * (log_weight.softmax(0).detach() * log_q).sum()
        if self.insomnia < 1.0:
            dreams = (_dream(model, guide, args, kwargs) for _ in range(self.num_sleep_particles))
            surrogate = surrogate - (1.0 - self.insomnia) * sum(dreams) / self.num_sleep_particles
        yield Estimate(loss, surrogate)


class _Run(NamedTuple):
    """Log-density of one run under model and guide, both of shape (particles of the run,)."""

    log_p: torch.Tensor
    log_q: torch.Tensor


class _WithoutGradient(Messenger):
    """Cuts draws off from the parameters they came from."""

    def postprocess_message(self, message: Message) -> None:
        if message.type == "sample" and not message.is_observed:
            message.value = message.value.detach()


def _dream(model: Fn, guide: Fn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Log-density under the guide of latent values that the model draws with data of its own, shape ()."""
    with torch.no_grad():
        record = trace(uncondition(model)).get_trace(*args, **kwargs)
    data = {site.name: site.value for site in record.sites("sample") if site.infer.get("was_observed")}
    if data and not _takes_observations(guide):
        raise InferenceError(
            "ReweightedWakeSleep: expected a guide with the argument 'observations', which shows it the data "
            f"{sorted(data)} of a dream, got one without; write def guide(observations), or give insomnia=1"
        )
    if data:
        kwargs = {**kwargs, "observations": data}
    return trace(replay(guide, trace=record)).get_trace(*args, **kwargs).log_prob_sum()


def _takes_observations(guide: Fn) -> bool:
    known = inspect.signature(guide).parameters
    return "observations" in known or any(each.kind is each.VAR_KEYWORD for each in known.values())
