"""Evidence by sequential Monte Carlo: from the posterior that was fitted to the model, step by step.

Adaptive tempering (Del Moral, Doucet & Jasra 2006, "Sequential Monte Carlo samplers"): draws of the
posterior are weighted towards ``q^(1-t) p^t``, resampled when the weights grow uneven, and moved.
"""

from __future__ import annotations

import math

import torch

from brancher.distributions import biject_to
from brancher.distributions.validation import validation_enabled
from brancher.errors import InferenceError
from brancher.handlers import trace
from brancher.infer.particles import particle_plate
from brancher.symbolic.pairs import Pair


class _Path:
    """Log-densities of model and posterior at flat unconstrained places, in the model's order."""

    def __init__(self, pair: Pair, count: int) -> None:
        from brancher.infer.mcmc.potential import Potential

        self.target = Potential(pair.model, (), {}, "SMC")
        self.start = Potential(pair.guide, (), {}, "SMC")
        mine = {slot.name: torch.arange(slot.start, slot.stop) for slot in self.target.slots}
        self.order = torch.cat([mine[slot.name] for slot in self.start.slots])
        with particle_plate(count, pair.nesting):
            record = trace(pair.guide).get_trace()
        free = [
            biject_to(record.nodes[slot.name].fn.support)
            .inv(record.nodes[slot.name].value)
            .reshape(count, -1)
            for slot in self.target.slots
        ]
        self.places = torch.cat(free, 1)
        self.target.prepare(self.places)
        self.start.prepare(self.places[:, self.order])

    def densities(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-density of posterior and of model, shape (count,) each."""
        return self.start.log_prob(places[:, self.order]), self.target.log_prob(places)


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
    with torch.no_grad(), validation_enabled(False):
        path = _Path(pair, count)
        places = path.places
        log_q, log_p = path.densities(places)
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
    new_q, new_p = path.densities(proposal)
    gain = heat * (new_p - log_p) + (1.0 - heat) * (new_q - log_q)
    accept = torch.rand(len(places)).log() < gain
    wide = accept.unsqueeze(1)
    return (
        torch.where(wide, proposal, places),
        torch.where(accept, new_q, log_q),
        torch.where(accept, new_p, log_p),
    )
