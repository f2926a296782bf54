"""Posteriors made of points: Stein's and Wasserstein's particles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from brancher.distributions import Delta
from brancher.errors import InferenceError, InferenceTypeError, NonFiniteError
from brancher.handlers.plate import open_frames
from brancher.params import using
from brancher.primitives import sample
from brancher.symbolic.data import DeterministicVariable
from brancher.symbolic.methods import InferenceMethod, Settings, whole_data
from brancher.symbolic.pairs import Pair
from brancher.symbolic.parameters import Parameter
from brancher.symbolic.samplers import Cells, SamplerMixture, settled

if TYPE_CHECKING:
    import pandas as pd

    from brancher.infer.mcmc.potential import Potential
    from brancher.symbolic.models import ProbabilisticModel


class PointPosterior:
    """A posterior of weighted points, drawn with replacement; a guide.

    Args:
        values: points by latent variable, shape (points, [rows], *data).
        ranks: number of data dimensions by variable.
        rows: names of variables that have data points.
        weights: of the points, normalised; None for equal ones.
    """

    def __init__(
        self,
        values: Mapping[str, torch.Tensor],
        ranks: Mapping[str, int],
        rows: Mapping[str, Any],
        weights: torch.Tensor | None = None,
    ) -> None:
        self.values, self.ranks, self.rows = dict(values), dict(ranks), dict(rows)
        count = len(next(iter(self.values.values())))
        self.weights = torch.full((count,), 1.0 / count) if weights is None else weights
        self.nesting = 1 if self.rows else 0

    def __call__(self) -> dict[str, torch.Tensor]:
        """Draw points jointly, one for each entry of the batch around."""
        frames = [frame for frame in open_frames() if frame.dim is not None]
        size = math.prod(frame.size for frame in frames)
        # The dimensions of the batch, without those that variables themselves have.
        lead = max([-(frame.dim or 0) for frame in frames], default=0) - self.nesting
        shape = [1] * max(lead, 0)
        for frame in frames:
            shape[(frame.dim or 0) + self.nesting] = frame.size
        chosen = torch.multinomial(self.weights, size, replacement=True)
        drawn = {}
        for name, value in self.values.items():
            rank = self.ranks[name]
            picked = value[chosen]
            if self.nesting and name not in self.rows:
                picked = picked.unsqueeze(1)
            picked = picked.reshape((*shape, *picked.shape[1:])) if frames else picked[0]
            opened = self.rows[name].open() if name in self.rows else None
            if opened is None:
                drawn[name] = sample(name, Delta(picked, event_dim=rank))
            else:
                with opened:
                    drawn[name] = sample(name, Delta(picked, event_dim=rank))
        return drawn


def set_points(
    model: ProbabilisticModel,
    pair: Pair,
    values: Mapping[str, torch.Tensor],
    weights: torch.Tensor | None = None,
) -> None:
    """Make weighted points the posterior of a model."""
    latents = {name: value.detach() for name, value in values.items() if name in pair.latents}
    rows = {name: row for name, row in pair.model.rows.items() if name in latents}
    ranks = {name: value.dim() - 1 - (name in rows) for name, value in latents.items()}
    model.posterior_model = None
    model._posterior = PointPosterior(latents, ranks, rows, weights)
    model._made.clear()


class _Particles(InferenceMethod):
    """Points that start at random, or where models of deterministic variables say."""

    number_particles: int
    init_scale: float
    _models: Sequence[ProbabilisticModel] | None = None

    def take_posterior(self, model: ProbabilisticModel, posterior: Any) -> None:
        from brancher.symbolic.collection import VariableCollection

        found = list(posterior) if isinstance(posterior, (list, tuple)) else []
        if len(found) < 2 or not all(isinstance(each, VariableCollection) for each in found):
            raise InferenceTypeError(
                f"{type(self).__name__}: expected posterior_model as a list of models, one a particle, got "
                f"{type(posterior).__name__}; give none for particles at random"
            )
        self._models, self.number_particles = found, len(found)

    def _starts(self) -> list[dict[str, torch.Tensor]]:
        return [
            {v.name: v.value for v in each.variables if isinstance(v, DeterministicVariable)}
            for each in self._models or ()
        ]

    def _first_places(self, density: Potential) -> torch.Tensor:
        if self._models is None:
            return self.init_scale * torch.randn(self.number_particles, density.dim)
        return torch.stack([density.unconstrain(start) for start in self._starts()])

    def _give_back(self, values: Mapping[str, torch.Tensor]) -> None:
        """Let the given models have the places where their particles came to."""
        for number, model in enumerate(self._models or ()):
            for variable in model.variables:
                held = variable.arguments.get("value")
                if variable.name in values and isinstance(held, Parameter):
                    held.set(values[variable.name][number].reshape(held.value.shape))


class SteinVariationalGradientDescent(_Particles):
    """Particles moved by Stein's method (Liu & Wang 2016, arXiv:1608.04471, eq. 8).

    Args:
        number_particles: how many, > 1.
        init_scale: standard deviation of their first places in unconstrained space.

    Raises:
        InferenceError: there are too few particles.
    """

    def __init__(self, number_particles: int = 50, init_scale: float = 1.0) -> None:
        if number_particles < 2:
            raise InferenceError(f"SVGD: expected number_particles > 1, got {number_particles}")
        self.number_particles, self.init_scale = number_particles, init_scale

    def run(self, model: ProbabilisticModel, settings: Settings) -> pd.Series | None:
        from brancher.infer.mcmc.potential import Potential

        pair = whole_data(model, "SVGD")
        with using(pair.store):
            density = Potential(pair.model, (), {}, "SVGD")
            places = self._first_places(density).requires_grad_()
            losses = self._move(density, places, settings)
            points = density.constrain(places.detach())
            set_points(model, pair, points)
            self._give_back(points)
        return losses

    def _move(self, density: Potential, places: torch.Tensor, settings: Settings) -> pd.Series:
        import pandas as pd

        optimizer = settings.optimizer(False)
        optimizer.bind({"particles": places})
        losses = []
        with torch.no_grad():
            density.prepare(places.detach())
        for step in range(settings.iterations):
            log_prob = density.log_prob(places)
            (slope,) = torch.autograd.grad(log_prob.sum(), places)
            direction = -stein_direction(places.detach(), slope)
            losses.append(_advance("SVGD", optimizer, -log_prob.mean(), [places], [direction]))
            if settings.callback is not None and settings.callback(step + 1, losses[-1]):
                break
        return pd.Series(losses, name="loss", index=pd.RangeIndex(len(losses), name="iteration"))


def _advance(
    owner: str,
    optimizer: Any,
    loss: torch.Tensor,
    leaves: Sequence[torch.Tensor],
    slopes: Sequence[torch.Tensor],
) -> float:
    """Take a step by numbers that are finite, and return the loss in nats.

    Raises:
        NonFiniteError: the loss or a slope is none.
    """
    value = float(loss.detach())
    if not math.isfinite(value) or not all(bool(slope.isfinite().all()) for slope in slopes):
        raise NonFiniteError(
            f"{owner}: expected a finite loss and finite gradients, got loss {value}; particles are as "
            "before: check the data and where particles start, or lower the learning rate"
        )
    for leaf, slope in zip(leaves, slopes, strict=True):
        leaf.grad = slope
    optimizer.step()
    return value


def stein_direction(places: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """The direction of steepest descent of the KL divergence in the unit ball of a Gaussian kernel's space.

    Args:
        places: particles, shape (n, dim).
        slope: gradient of the log-density at each, shape (n, dim).
    """
    difference = places.unsqueeze(1) - places.unsqueeze(0)
    squared = difference.square().sum(-1)
    # The median heuristic of section 5: each particle's kernel balances the others' pull.
    width = squared.median() / math.log(len(places) + 1.0) + 1e-8
    kernel = (-squared / width).exp()
    repulsion = (2.0 / width) * (kernel.unsqueeze(-1) * difference).sum(1)
    return (kernel @ slope + repulsion) / len(places)


class WassersteinVariationalGradientDescent(_Particles):
    """Particles that share the posterior out by cells, each with a sampler of its own.

    Each particle stands for the part of space that is nearest to it. Its sampler, a normal around the
    particle in unconstrained space, draws there; the particle moves to the mean of the cell's mass, its
    weight is the mass. After Ambrogioni et al. 2018, "Wasserstein variational gradient descent",
    arXiv:1811.02827.

    Args:
        number_particles: how many, > 1.
        number_samples: draws of each sampler a step; None for ``number_samples`` of the call, at least 20.
        init_scale: standard deviation of first places and samplers in unconstrained space.
        variational_samplers: models of posterior variables that draw, one a particle, in place of the
            normals; they are learned, and cells are then those of the values themselves.
        particles: models of deterministic variables, where each particle starts.
        biased: whether draws of given samplers count the same, without importance weights.
        number_post_samples: draws of each given sampler for the weights in the end.

    Attributes:
        weights: of the particles, normalised, once there are some.
        sampler_model: the given samplers.

    Raises:
        InferenceError: there are too few particles, or samplers without as many particles.
    """

    weights: torch.Tensor | None = None

    def __init__(
        self,
        number_particles: int = 10,
        number_samples: int | None = None,
        init_scale: float = 1.0,
        *,
        variational_samplers: Sequence[ProbabilisticModel] | None = None,
        particles: Sequence[ProbabilisticModel] | None = None,
        biased: bool = False,
        number_post_samples: int = 20_000,
    ) -> None:
        if number_particles < 2:
            raise InferenceError(f"WVGD: expected number_particles > 1, got {number_particles}")
        self.number_particles, self.number_samples = number_particles, number_samples
        self.init_scale, self.biased, self.number_post_samples = init_scale, biased, number_post_samples
        self.sampler_model = list(variational_samplers or ())
        if particles is not None:
            self._models, self.number_particles = list(particles), len(particles)

    def _run_samplers(self, model: ProbabilisticModel, settings: Settings) -> list[float]:
        """Fit the given samplers, and the particles to their draws."""
        if len(self._models or ()) != len(self.sampler_model):
            raise InferenceError(
                f"WVGD: expected one particle for each of {len(self.sampler_model)} variational_samplers, "
                f"got {len(self._models or ())}; give particles=, a list of models of RootVariables"
            )
        mixture = SamplerMixture(model, self.sampler_model)
        optimizer, leaves = settings.optimizer(False), mixture.leaves
        optimizer.bind(leaves)
        losses = []
        for step in range(settings.iterations):
            draws = mixture.draw(self.number_samples or settings.samples)
            loss = (draws.log_mixture - draws.log_joint).mean()
            slopes = torch.autograd.grad(loss, list(leaves.values()))
            losses.append(_advance("WVGD", optimizer, loss, list(leaves.values()), slopes))
            if settings.callback is not None and settings.callback(step + 1, losses[-1]):
                break
        starts, latents = self._starts(), mixture.pairs[0].latents
        cells = Cells({name: torch.stack([start[name] for start in starts]) for name in sorted(latents)})
        settled(mixture, cells, self.number_post_samples, self.biased)
        self.weights = cells.weights
        set_points(model, mixture.pairs[0], cells.means, self.weights)
        self._give_back(cells.means)
        return losses

    def run(self, model: ProbabilisticModel, settings: Settings) -> pd.Series | None:
        import pandas as pd

        losses = self._run_samplers(model, settings) if self.sampler_model else self._run(model, settings)
        weights = torch.as_tensor(self.weights)
        model.diagnostics["particle weights"] = pd.Series(weights.numpy(), name="weight")
        return pd.Series(losses, name="loss", index=pd.RangeIndex(len(losses), name="iteration"))

    def _run(self, model: ProbabilisticModel, settings: Settings) -> list[float]:
        from brancher.infer.mcmc.potential import Potential

        pair = whole_data(model, "WVGD")
        draws = self.number_samples or max(20, settings.samples)
        with using(pair.store):
            density = Potential(pair.model, (), {}, "WVGD")
            start = self._first_places(density)
            places = start.clone().requires_grad_()
            spread = torch.full_like(start, math.log(self.init_scale)).requires_grad_()
            optimizer = settings.optimizer(False)
            optimizer.bind({"particles": places, "spread": spread})
            density.prepare(start)
            losses = []
            for step in range(settings.iterations):
                loss = self._loss(density, places, spread, draws)
                slopes = torch.autograd.grad(loss, (places, spread))
                losses.append(_advance("WVGD", optimizer, loss, [places, spread], slopes))
                if settings.callback is not None and settings.callback(step + 1, losses[-1]):
                    break
            points, weights = self._settle(density, places.detach(), spread.detach(), max(draws, 200))
            values = density.constrain(points)
            set_points(model, pair, values, weights)
        self._give_back(values)
        self.weights = weights
        return losses

    def _loss(
        self, density: Potential, places: torch.Tensor, spread: torch.Tensor, draws: int
    ) -> torch.Tensor:
        """Negative ELBO of the mixture of all samplers."""
        log_joint, log_mixture, _ = _mixture_draws(density, places, spread, draws)
        return (log_mixture - log_joint).mean()

    def _settle(
        self, density: Potential, places: torch.Tensor, spread: torch.Tensor, draws: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each cell's mean and mass, by importance weights of all draws."""
        with torch.no_grad():
            log_joint, log_mixture, drawn = _mixture_draws(density, places, spread, draws)
            weights = (log_joint - log_mixture).softmax(0)
            cell = torch.cdist(drawn, places).argmin(1)
            mass = torch.zeros(len(places)).index_add(0, cell, weights)
            total = torch.zeros_like(places).index_add(0, cell, weights.unsqueeze(1) * drawn)
        points = torch.where(mass.unsqueeze(1) > 1e-12, total / mass.clamp(min=1e-12).unsqueeze(1), places)
        return points, mass / mass.sum()


def _mixture_draws(
    density: Potential, places: torch.Tensor, spread: torch.Tensor, draws: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws of all samplers: log-joint, log-density under the mixture of samplers, and the draws."""
    noise = torch.randn(draws, *places.shape)
    drawn = (places + spread.exp() * noise).reshape(-1, places.shape[1])
    laws = torch.distributions.Normal(places, spread.exp(), validate_args=False)
    each = laws.log_prob(drawn.unsqueeze(1)).sum(-1)
    log_mixture = each.logsumexp(1) - math.log(len(places))
    return density.log_prob(drawn), log_mixture, drawn
