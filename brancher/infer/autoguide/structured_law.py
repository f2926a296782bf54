"""The joint law of :class:`~brancher.infer.autoguide.AutoStructured` and its draws."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch.distributions.transforms import Transform

from brancher.distributions import Distribution, constraints
from brancher.distributions.shapes import Size, broadcast_shapes
from brancher.distributions.special import HALF_LOG_2PI
from brancher.errors import GuideError
from brancher.handlers import infer_config
from brancher.infer.autoguide.affine import noise_like
from brancher.infer.autoguide.continuous import JointDraws
from brancher.infer.autoguide.drawn import point
from brancher.infer.autoguide.prototype import Latent
from brancher.infer.autoguide.walk import Spot

Tensors = dict[str, torch.Tensor]


class Part(NamedTuple):
    """One site's part of a structured law.

    Attributes:
        name: the site.
        loc: mean, shape (n,).
        scale: standard deviations of the noise, shape (n,); None where there is none or a function draws it.
        scale_tril: unit lower-triangular factor of the noise, shape (n, n); None for independent entries.
        draw: draws the noise; None where ``scale`` does.
        maps: by upstream site, a matrix or a function of what moves that site.
    """

    name: str
    loc: torch.Tensor
    scale: torch.Tensor | None
    scale_tril: torch.Tensor | None
    draw: Callable[..., Any] | None
    maps: Mapping[str, Any]

    def scaled(self, noise: torch.Tensor) -> torch.Tensor:
        """What standard noise is at this site."""
        if self.scale is None:
            return noise
        return (noise if self.scale_tril is None else noise @ self.scale_tril.mT) * self.scale

    def standard(self, noise: torch.Tensor) -> torch.Tensor:
        """The standard noise behind noise."""
        if self.scale is None:
            return noise
        noise = noise / self.scale
        if self.scale_tril is None:
            return noise
        solved: torch.Tensor = torch.linalg.solve_triangular(
            self.scale_tril, noise.unsqueeze(-1), upper=False, unitriangular=True
        )
        return solved.squeeze(-1)


class StructuredLaw(Distribution):
    """Vectors whose parts are moved along with the parts upstream.

    Parts without standard noise, points and what functions draw, have no density: it is 1 everywhere.

    Args:
        parts: in the order of the vector.
        order: names, every part after those upstream of it.
        batch_shape: B.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        parts: list[Part],
        order: list[str],
        batch_shape: torch.Size = torch.Size(),  # noqa: B008
    ) -> None:
        self.parts, self.order = parts, order
        self._by_name = {part.name: part for part in parts}
        super().__init__(batch_shape, torch.Size([sum(len(part.loc) for part in parts)]), validate_args=False)

    @property
    def is_linear(self) -> bool:
        """Whether the law is normal, with parts of no width."""
        return not any(part.draw or any(map(callable, part.maps.values())) for part in self.parts)

    def expand(self, batch_shape: Size, _instance: Any = None) -> Distribution:
        """The law for another batch."""
        return StructuredLaw(self.parts, self.order, torch.Size(batch_shape))

    def noise(self, batch_shape: torch.Size) -> Tensors:
        """Draw the noise of every part: standard, or as its function says."""
        found: Tensors = {}
        for part in self.parts:
            if part.draw is not None:
                found[part.name] = _drawn(part.name, part.draw, batch_shape + part.loc.shape)
            elif part.scale is None:
                found[part.name] = part.loc.new_zeros(batch_shape + part.loc.shape)
            else:
                found[part.name] = noise_like(part.loc, batch_shape)
        return found

    def moved(self, noise: Tensors) -> torch.Tensor:
        """The vector that noise makes, shape (*B, n)."""
        shifts: Tensors = {}
        for name in self.order:
            part = self._by_name[name]
            shifts[name] = part.scaled(noise[name]) + self._from_upstream(part, shifts)
        return torch.cat([part.loc + shifts[part.name] for part in self.parts], -1)

    def density(self, noise: Tensors) -> torch.Tensor:
        """Log-density of the vector that noise makes, in nats, shape B."""
        total = next(iter(noise.values())).new_zeros(())
        for part in self.parts:
            if part.scale is not None:
                standard = -0.5 * noise[part.name].square().sum(-1) - HALF_LOG_2PI * len(part.loc)
                total = total + standard - part.scale.log().sum()
        return total

    def cut(self, vector: torch.Tensor) -> Tensors:
        """The parts of a vector."""
        cuts = vector.split([len(part.loc) for part in self.parts], -1)
        return {part.name: cut for part, cut in zip(self.parts, cuts, strict=True)}

    def rsample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw vectors, shape sample_shape + B + (n,)."""
        return self.moved(self.noise(torch.Size(sample_shape) + self.batch_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        density = self.density(self.noise_of(value))
        return density.expand(broadcast_shapes(density.shape, self.batch_shape))

    def noise_of(self, vector: torch.Tensor) -> Tensors:
        """The noise that makes a vector."""
        values, shifts, noise = self.cut(vector), dict[str, torch.Tensor](), dict[str, torch.Tensor]()
        for name in self.order:
            part = self._by_name[name]
            shifts[name] = values[name] - part.loc
            noise[name] = part.standard(shifts[name] - self._from_upstream(part, shifts))
        return noise

    def _from_upstream(self, part: Part, shifts: Tensors) -> torch.Tensor:
        moved = part.loc.new_zeros(())
        for upstream, each in part.maps.items():
            shift = each(shifts[upstream]) if callable(each) else shifts[upstream] @ each.mT
            if shift.shape[-1:] != part.loc.shape:
                raise GuideError(
                    f"AutoStructured: expected the map from site '{upstream}' to site '{part.name}' to "
                    f"return {len(part.loc)} entries, got shape {tuple(shift.shape)}; it takes and gives "
                    "flat vectors"
                )
            moved = moved + shift
        return moved


class StructuredTransform(Transform):
    """From a standard normal vector to one of a structured law.

    Args:
        law: the law; all its parts have standard noise.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, law: StructuredLaw) -> None:
        super().__init__()
        self.law = law

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self.law.moved(self.law.cut(x))

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        noise = self.law.noise_of(y)
        return torch.cat([noise[part.name] for part in self.law.parts], -1)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Sum of the logarithms of all scales, shape of ``x`` without its last dimension."""
        scales = [part.scale.log().sum() for part in self.law.parts if part.scale is not None]
        return torch.stack(scales).sum().expand(x.shape[:-1])


def _drawn(name: str, draw: Callable[..., Any], shape: torch.Size) -> torch.Tensor:
    """What a site's function draws, its sites marked as auxiliary."""
    noise = infer_config(draw, config_fn=lambda site: {"is_auxiliary": True})()
    if not isinstance(noise, torch.Tensor) or noise.shape[-1:] != shape[-1:]:
        got = tuple(noise.shape) if isinstance(noise, torch.Tensor) else type(noise).__name__
        raise GuideError(
            f"AutoStructured: expected the function of site '{name}' to draw a vector of {shape[-1]} "
            f"entries, got {got}; draw it with .to_event(1)"
        )
    return noise.expand(shape)


class StructuredDraws(JointDraws):
    """Draws of a structured law.

    Args:
        draws: the draws.
        points: sites without noise: like those of ``AutoDelta``, they count no Jacobian.
    """

    def __init__(self, draws: JointDraws, points: Collection[str]) -> None:
        self.lead, self.rank, self.parts, self.points = draws.lead, draws.rank, draws.parts, points

    def law(self, latent: Latent, spot: Spot) -> Distribution:
        """What the vector says at a site."""
        if latent.name not in self.points:
            return super().law(latent, spot)
        return point(self.value(latent, spot.rows, spot.transform), latent.event_dim)
