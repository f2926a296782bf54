"""Strategies for angles and directions, which have no unbounded coordinates of their own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import softplus

from brancher.distributions import Distribution, Normal, ProjectedNormal, constraints
from brancher.distributions.shapes import Size, sum_rightmost
from brancher.handlers import Message
from brancher.infer.reparam.strategy import Reparam, Rewritten, latent_only, unwrapped, wrong_family
from brancher.primitives import sample

_TURN = 2.0 * math.pi


class CircularReparam(Reparam):
    """Sample an angle as ``{name}_unwrapped`` on the whole line, without a seam at pi, and wrap it.

    The law on the line is proper, and wrapping it gives exactly the law of the angle.

    Example:
        >>> from brancher.infer.reparam import CircularReparam
        >>> model = handlers.reparam(
        ...     lambda: sample("x", dist.VonMises(3.0, 5.0)), config={"x": CircularReparam()}
        ... )
        >>> handlers.condition(model, data={"x_unwrapped": torch.tensor(4.0)})()
        tensor(-2.2832)
    """

    def apply(self, message: Message) -> Rewritten:
        """Sample on the line and wrap."""
        latent_only(self, message)
        if not isinstance(unwrapped(message.fn)[0], torch.distributions.VonMises):
            raise wrong_family(self, message, "an angle (VonMises)")
        drawn = sample(f"{message.name}_unwrapped", Unwrapped(message.fn), infer=message.infer)
        return {"fn": None, "value": wrap(drawn), "is_observed": False}


class ProjectedNormalReparam(Reparam):
    """Sample the normal vector behind a projected normal direction as ``{name}_normal``.

    Example:
        >>> from brancher.infer.reparam import ProjectedNormalReparam
        >>> model = lambda: sample("x", dist.ProjectedNormal(torch.zeros(3)))
        >>> handlers.reparam(model, config={"x": ProjectedNormalReparam()})().norm()
        tensor(1.0000)
    """

    def apply(self, message: Message) -> Rewritten:
        """Sample the vector and divide it by its length."""
        latent_only(self, message)
        fn, event_dim = unwrapped(message.fn)
        if not isinstance(fn, ProjectedNormal):
            raise wrong_family(self, message, "ProjectedNormal")
        loc = fn.concentration.expand(message.fn.batch_shape + message.fn.event_shape)
        law = Normal(loc, torch.ones_like(loc)).to_event(event_dim + 1)
        drawn = sample(f"{message.name}_normal", law, infer=message.infer)
        # A vector of length zero has no direction; it is never drawn, but a guide may start there.
        length = torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)
        return {"fn": None, "value": drawn / length.clamp(min=1e-30), "is_observed": False}


class Unwrapped(Distribution):
    """An angle on the whole line: every turn has a share of the angle's probability.

    ``p(u) = p_angle(wrap(u)) * (F(u - m + pi) - F(u - m - pi))`` with F the logistic distribution
    function and m the angle's mean direction; the shares of all turns add up to one.

    Args:
        angle: law of the angle, VonMises with or without ``to_event``.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, angle: Any) -> None:
        self.angle = angle
        family, _ = unwrapped(angle)
        self.loc = family.loc.expand(angle.batch_shape + angle.event_shape)
        super().__init__(angle.batch_shape, angle.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        """The line, for every entry of an event."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Size, _instance: Any = None) -> Unwrapped:
        """Return independent copies for a larger batch."""
        return Unwrapped(self.angle.expand(torch.Size(batch_shape)))

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw an angle and the turn it is on."""
        with torch.no_grad():
            angle = self.angle.sample(torch.Size(sample_shape))
            uniform = torch.rand_like(angle).clamp(1e-7, 1.0 - 1e-7)
            centre = self.loc + uniform.logit()
            unwrapped_angle: torch.Tensor = angle + _TURN * torch.round((centre - angle) / _TURN)
            return unwrapped_angle

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density in nats, shape sample_shape + B."""
        after, before = value - self.loc + math.pi, value - self.loc - math.pi
        share = after + math.log1p(-math.exp(-_TURN)) - softplus(after) - softplus(before)
        density: torch.Tensor = self.angle.log_prob(wrap(value))
        return density + sum_rightmost(share, len(self.event_shape))


def wrap(angle: torch.Tensor) -> torch.Tensor:
    """The same direction in [-pi, pi)."""
    return torch.remainder(angle + math.pi, _TURN) - math.pi
