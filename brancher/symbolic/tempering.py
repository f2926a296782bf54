"""Evidence by sequential Monte Carlo: from the posterior that was fitted to the model, step by step.

Adaptive tempering (Del Moral, Doucet & Jasra 2006, "Sequential Monte Carlo samplers"): draws of the
posterior are weighted towards ``q^(1-t) p^t``, resampled when the weights grow uneven, and moved.
"""

from __future__ import annotations

import math

import torch

from brancher.errors import InferenceError
from brancher.handlers import substitute, trace
from brancher.handlers.density import score
from brancher.infer.mcmc.potential import Potential
from brancher.infer.particles import particle_plate
from brancher.symbolic.pairs import Pair


class _Path:
    """Log-densities of model and posterior at flat unconstrained places."""

    def __init__(self, pair: Pair, count: int) -> None:
        self.pair, self.count = pair, count
        self.target = Potential(pair.model, (), {}, "SMC")
        with particle_plate(count, pair.nesting):
            record = trace(pair.guide).get_trace()
        values = {}
        for name in pair.latents:
            site = record.nodes[name]
            shape = site.value.shape
            rows = (pair.model.rows[name].present,) if name in pair.model.rows else ()
            values[name] = site.value.reshape((count, *rows, *shape[len(shape) - len(site.fn.event_shape) :]))
        self.start = self.target.unconstrain(values)

    def start_density(self, places: torch.Tensor) -> torch.Tensor:
        """Log-density of the fitted posterior in unconstrained space, shape (count,)."""
        values = self.target.constrain(places)
        rank = self.pair.nesting

        def answer(message):  # type: ignore[no-untyped-def]
            value = values.get(message.name)
            if message.type != "sample" or value is None:
                return None
            own = message.fn.batch_shape[1:] + message.fn.event_shape
            return value.reshape((len(places), *(1,) * (len(own) + 1 - value.dim()), *value.shape[1:]))

        with particle_plate(self.count, rank), substitute(substitute_fn=answer):
            record = trace(self.pair.guide).get_trace()
        log_q = sum(score(site).reshape(self.count, -1).sum(1) for site in record.scored())
        return torch.as_tensor(log_q) + self._jacobian(places, values)

    def _jacobian(self, places: torch.Tensor, values: dict[str, torch.Tensor]) -> torch.Tensor:
        """What Potential adds to the model's density for its change of variables."""
        with particle_plate(self.count, self.pair.nesting):
            record = trace(
                substitute(self.pair.model, substitute_fn=lambda m: _spread(m, values, self.count))
            ).get_trace()
        log_p = sum(score(site).reshape(self.count, -1).sum(1) for site in record.scored())
        return self.target.log_prob(places) - torch.as_tensor(log_p)


def _spread(message, values, count):  # type: ignore[no-untyped-def]
    value = values.get(message.name)
    if message.type != "sample" or value is None or message.is_observed:
        return None
    rank = len(message.fn.batch_shape) + len(message.fn.event_shape)
    return value.reshape((count, *(1,) * (rank - value.dim()), *value.shape[1:]))


def tempered_evidence(pair: Pair, count: int, moves: int = 5, threshold: float = 0.5) -> float:
    """Log evidence in nats.

    Args:
        pair: model and posterior.
        count: draws.
        moves: random-walk steps after each resampling, > 0.
        threshold: effective share of draws that a step of temperature keeps, in (0, 1).

    Raises:
        InferenceError: an option is out of range.
    """
    if moves < 1 or not 0.0 < threshold < 1.0:
        raise InferenceError(f"SMC: expected moves > 0 and threshold in (0, 1), got {moves} and {threshold}")
    with torch.no_grad():
        path = _Path(pair, count)
        places = path.start
        path.target.prepare(places)
        log_q, log_p = path.start_density(places), path.target.log_prob(places)
        heat, total = 0.0, 0.0
        while heat < 1.0:
            step = _step(log_p - log_q, 1.0 - heat, threshold * count)
            log_weights = step * (log_p - log_q)
            total += float(log_weights.logsumexp(0)) - math.log(count)
            heat += step
            chosen = torch.multinomial((log_weights - log_weights.max()).exp(), count, replacement=True)
            places, log_q, log_p = places[chosen], log_q[chosen], log_p[chosen]
            if heat < 1.0:
                for _ in range(moves):
                    places, log_q, log_p = _moved(path, places, log_q, log_p, heat)
    return total


def _step(ratio: torch.Tensor, most: float, wanted: float) -> float:
    """The largest step of temperature that keeps the effective number of draws, by bisection."""

    def effective(step: float) -> float:
        weights = (step * ratio).softmax(0)
        return 1.0 / float(weights.square().sum())

    if effective(most) >= wanted:
        return most
    low, high = 0.0, most
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= wanted else (low, middle)
    return max(low, 1e-6)


def _moved(
    path: _Path, places: torch.Tensor, log_q: torch.Tensor, log_p: torch.Tensor, heat: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dim = places.shape[1]
    scale = 2.38 / dim**0.5 * places.std(0).clamp(min=1e-6)
    proposal = places + 0.5 * scale * torch.randn_like(places)
    new_q, new_p = path.start_density(proposal), path.target.log_prob(proposal)
    gain = heat * (new_p - log_p) + (1.0 - heat) * (new_q - log_q)
    accept = torch.rand(len(places)).log() < gain
    wide = accept.unsqueeze(1)
    return torch.where(wide, proposal, places), torch.where(accept, new_q, log_q), torch.where(accept, new_p, log_p)
