"""Several posteriors at once: samplers that share one model's posterior out among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from brancher.distributions.shapes import broadcast
from brancher.errors import InferenceError
from brancher.handlers import Message, Trace, replay, substitute, trace
from brancher.handlers.density import score
from brancher.infer.particles import particle_plate
from brancher.params import using
from brancher.symbolic.pairs import Pair
from brancher.symbolic.parameters import Parameter
from brancher.symbolic.program import Program

if TYPE_CHECKING:
    from brancher.symbolic.models import ProbabilisticModel


class MixtureDraws(NamedTuple):
    """Draws of all samplers.

    Attributes:
        log_joint: of the model, shape (draws,), in nats.
        log_mixture: of the mixture of samplers.
        values: by latent variable, shape (draws, [rows], *data).
    """

    log_joint: torch.Tensor
    log_mixture: torch.Tensor
    values: dict[str, torch.Tensor]


class SamplerMixture:
    """Samplers of the latent variables of a model, in equal parts.

    Args:
        model: the model, with its data.
        samplers: models of posterior variables, one a sampler.

    Raises:
        GuideError: a sampler has a variable that the model has not.
        InferenceError: a sampler lacks a latent variable.
    """

    def __init__(self, model: ProbabilisticModel, samplers: Sequence[ProbabilisticModel]) -> None:
        self.pairs = [Pair(model, sampler) for sampler in samplers]
        for number, pair in enumerate(self.pairs):
            pair.check_names()
            drawn = {variable.name for variable in pair.guide.variables}
            if missing := sorted(pair.latents - drawn):
                raise InferenceError(
                    f"sampler {number}: expected all latent variables, got none for {missing}; add them"
                )
        self.nesting = max(pair.nesting for pair in self.pairs)

    @property
    def leaves(self) -> dict[str, torch.Tensor]:
        """What the samplers learn, unconstrained, by name."""
        return {
            f"{number}.{node.label}": node.place.leaf
            for number, pair in enumerate(self.pairs)
            for node in pair.guide.nodes
            if isinstance(node, Parameter)
        }

    def draw(self, count: int) -> MixtureDraws:
        """Draw ``count`` times from each sampler."""
        joint, mixture, parts = [], [], []
        for pair in self.pairs:
            with using(pair.store), particle_plate(count, self.nesting):
                drawn = trace(pair.guide).get_trace()
                whole = trace(replay(pair.model, trace=drawn)).get_trace()
            values = {name: drawn.nodes[name].value for name in pair.latents}
            joint.append(self._each(whole, count))
            each = [self._each(drawn if q is pair else self._at(q, values, count), count) for q in self.pairs]
            mixture.append(torch.stack(each).logsumexp(0) - math.log(len(each)))
            parts.append({name: self._shaped(pair.model, name, values[name], count) for name in values})
        whole_values = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return MixtureDraws(torch.cat(joint), torch.cat(mixture), whole_values)

    def _at(self, pair: Pair, values: Mapping[str, torch.Tensor], count: int) -> Trace:
        """One sampler at the draws of another."""

        def answer(message: Message) -> torch.Tensor | None:
            return values.get(message.name) if message.type == "sample" else None

        with using(pair.store), substitute(substitute_fn=answer), particle_plate(count, self.nesting):
            return trace(pair.guide).get_trace()

    def _each(self, record: Trace, count: int) -> torch.Tensor:
        """Log-density of every draw, shape (count,)."""
        lead = (count,) + (1,) * self.nesting
        terms = [score(site) for site in record.scored()]
        return sum(  # type: ignore[return-value]
            term.expand(broadcast("sampler", term.shape, lead)).reshape(count, -1).sum(1) for term in terms
        )

    def _shaped(self, program: Program, name: str, value: torch.Tensor, count: int) -> torch.Tensor:
        """Draws as (count, [rows], *data)."""
        return value if name in program.rows or not self.nesting else value.reshape(count, *value.shape[2:])


class Cells:
    """Mass and mean of the cells around particles: each cell is what lies nearest to its particle.

    Args:
        particles: by latent variable, shape (particles, *rest).
    """

    def __init__(self, particles: Mapping[str, torch.Tensor]) -> None:
        self.particles = dict(particles)
        self.places = _flat(particles)
        count = len(self.places)
        self._log_scale = torch.tensor(-math.inf)
        self._mass = torch.zeros(count)
        self._sums = torch.zeros_like(self.places)

    def add(self, values: Mapping[str, torch.Tensor], log_weights: torch.Tensor) -> None:
        """Add weighted draws; weights of all calls are relative to each other."""
        drawn = _flat(values)
        highest = torch.maximum(self._log_scale, log_weights.max())
        shrink = (self._log_scale - highest).exp()
        weights = (log_weights - highest).exp()
        cell = torch.cdist(drawn, self.places).argmin(1)
        self._mass = (shrink * self._mass).index_add(0, cell, weights)
        self._sums = (shrink * self._sums).index_add(0, cell, weights.unsqueeze(1) * drawn)
        self._log_scale = highest

    @property
    def weights(self) -> torch.Tensor:
        """Mass of each cell, normalised."""
        return self._mass / self._mass.sum()

    @property
    def means(self) -> dict[str, torch.Tensor]:
        """Mean of each cell by latent variable; a cell without mass keeps its particle."""
        has_mass = self.weights > 1e-12
        safe = torch.where(has_mass, self._mass, 1.0).unsqueeze(1)
        rest = torch.where(has_mass.unsqueeze(1), self._sums / safe, self.places)
        found = {}
        for name, value in self.particles.items():
            size = value[0].numel()
            found[name], rest = rest[:, :size].reshape(value.shape), rest[:, size:]
        return found


def settled(mixture: SamplerMixture, cells: Cells, number: int, is_biased: bool) -> None:
    """Fill cells with draws of all samplers, by importance weights unless biased.

    Args:
        mixture: the samplers.
        cells: the cells.
        number: draws of each sampler.
        is_biased: whether every draw counts the same.
    """
    at_once = 10_000
    with torch.no_grad():
        for first in range(0, number, at_once):
            draws = mixture.draw(min(at_once, number - first))
            log_weights = draws.log_joint - draws.log_mixture
            cells.add(draws.values, torch.zeros_like(log_weights) if is_biased else log_weights)


def _flat(values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Values side by side, shape (count, entries)."""
    return torch.cat([value.reshape(len(value), -1) for value in values.values()], 1)
