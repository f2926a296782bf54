"""``LocScaleReparam``: locations and scales taken out of a prior, wholly or in part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from brancher.distributions import constraints
from brancher.errors import SiteError
from brancher.handlers import Message
from brancher.infer.particles import PARTICLES
from brancher.infer.reparam.strategy import Reparam, Rewritten, latent_only, unwrapped, wrong_family
from brancher.primitives import param, sample


class LocScaleReparam(Reparam):
    """Sample ``{name}_decentered`` with location and scale moved towards 0 and 1, then move it back.

    With centeredness c the auxiliary site has location ``c * loc`` and scale ``scale ** c``, and
    the site is ``loc + scale ** (1 - c) * (aux - c * loc)``: 1 is the model as written, 0 is
    fully non-centred. Gorinova, Moore & Hoffman 2020, arXiv:1906.03028, eq. 4.

    Args:
        centered: c in [0, 1], a number or tensor; None to learn it as the parameter
            ``{name}_centered``.
        shape_params: names of other arguments of the distribution to pass on, such as ``df``.

    Raises:
        SiteError: ``centered`` is outside [0, 1].

    Example:
        >>> from brancher.infer.reparam import LocScaleReparam
        >>> model = lambda: sample("x", dist.Normal(5.0, 2.0))
        >>> with handlers.reparam(config={"x": LocScaleReparam(0.0)}):
        ...     trace = handlers.trace(model).get_trace()
        >>> trace["x_decentered"].fn
        Normal(loc: 0.0, scale: 1.0)
    """

    def __init__(
        self, centered: float | torch.Tensor | None = None, shape_params: Sequence[str] = ()
    ) -> None:
        if centered is not None and not bool(((torch.as_tensor(centered) - 0.5).abs() <= 0.5).all()):
            raise SiteError(f"LocScaleReparam: expected centered in [0, 1] or None, got {centered}")
        self.centered, self.shape_params = centered, tuple(shape_params)

    def apply(self, message: Message) -> Rewritten:
        """Sample the auxiliary site and compute the value."""
        latent_only(self, message)
        fn, event_dim = unwrapped(message.fn)
        if self.centered is not None and not isinstance(self.centered, torch.Tensor) and self.centered == 1.0:
            return {"fn": message.fn, "value": message.value, "is_observed": False}
        loc, scale = _loc_and_scale(self, message, fn)
        centered = self._centeredness(message, event_dim)
        shared = {name: getattr(fn, name) for name in self._shape_params(fn)}
        auxiliary = type(fn)(loc=loc * centered, scale=scale**centered, **shared)
        shape = message.fn.batch_shape + message.fn.event_shape
        drawn = sample(
            f"{message.name}_decentered", auxiliary.expand(shape).to_event(event_dim), infer=message.infer
        )
        value = loc + scale ** (1.0 - centered) * (drawn - centered * loc)
        return {"fn": None, "value": value, "is_observed": False}

    def _centeredness(self, message: Message, event_dim: int) -> Any:
        if self.centered is not None:
            return self.centered
        rank = len(message.fn.event_shape)
        # One value for each row of the model's plates, whatever batch the model is run in.
        plates = {f.dim: f.full_size for f in message.frames if f.dim is not None and f.name != PARTICLES}
        rows = tuple(plates.get(dim, 1) for dim in range(min(plates, default=0), 0))
        start = unwrapped(message.fn)[0].loc.detach().new_full((*rows, *message.fn.event_shape), 0.5)
        return param(f"{message.name}_centered", start, constraint=constraints.unit_interval, event_dim=rank)

    def _shape_params(self, fn: Any) -> tuple[str, ...]:
        named = [name for name in fn.arg_constraints if name not in ("loc", "scale")]
        return self.shape_params or tuple(named)


def _loc_and_scale(strategy: object, message: Message, fn: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if not {"loc", "scale"} <= set(getattr(fn, "arg_constraints", {})):
        raise wrong_family(strategy, message, "a family with loc and scale")
    support = fn.support
    if support is not constraints.real and not isinstance(support, type(constraints.real)):
        raise wrong_family(strategy, message, "a family on the real line")
    return fn.loc, fn.scale
