"""``NeuTraReparam``: a model in the variables of a fitted guide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from brancher.distributions import biject_to
from brancher.distributions.shapes import sum_rightmost
from brancher.errors import GuideError, InferenceTypeError, SiteError
from brancher.handlers import Message, reparam, stack
from brancher.handlers.plate import PlateScope
from brancher.infer.autoguide.continuous import AutoContinuous, JointDraws
from brancher.infer.particles import PARTICLES
from brancher.infer.reparam.strategy import Reparam, Rewritten
from brancher.primitives import factor, sample

Fn = Callable[..., Any]

#: What each strategy has drawn in the run going on here, by the strategy's id.
_DRAWN: ContextVar[dict[int, JointDraws] | None] = ContextVar("brancher_neutra", default=None)


class NeuTraReparam(Reparam):
    """Sample a vector that a fitted guide sends to the model's latent sites.

    In these variables the posterior is close to a standard normal where the guide is good, which a
    sampler likes. Hoffman et al. 2019, arXiv:1903.03704, section 3. The vector is the site
    ``{first}_shared_latent``, by the name of the first latent site; the sites themselves become
    deterministic, so that their values stay among the samples. The guide's parameters are held fixed.

    Args:
        guide: a guide of one flat vector, such as :class:`AutoIAFNormal`, that has been fitted.

    Raises:
        InferenceTypeError: the guide is of another kind.
        GuideError: the guide has not seen the model.

    Example:
        >>> from brancher.infer import SVI
        >>> from brancher.infer.autoguide import AutoDiagonalNormal
        >>> from brancher.infer.reparam import NeuTraReparam
        >>> model = lambda: sample("x", dist.Gamma(2.0, 1.0))
        >>> guide = AutoDiagonalNormal(model)
        >>> loss = SVI(model, guide).step()
        >>> list(handlers.trace(NeuTraReparam(guide).reparam(model)).get_trace().stochastic_nodes)
        ['x_shared_latent']
    """

    def __init__(self, guide: AutoContinuous) -> None:
        if not isinstance(guide, AutoContinuous):
            raise InferenceTypeError(
                f"NeuTraReparam: expected a guide of one flat vector, such as AutoIAFNormal, got "
                f"{type(guide).__name__}"
            )
        if not guide.latents:
            raise GuideError(
                "NeuTraReparam: expected a fitted guide, got one that has not seen its model; fit it by SVI"
            )
        self.guide = guide
        self._latents = {latent.name: latent for latent in guide.latents}

    def reparam(self, fn: Fn | None = None) -> reparam:
        """Rewrite a model by this strategy; a decorator without ``fn``."""
        return reparam(fn, config=self._strategy_for)

    def _strategy_for(self, message: Message) -> NeuTraReparam | None:
        return self if message.name in self._latents else None

    def apply(self, message: Message) -> Rewritten:
        """Take a site's value from the vector, which the first site draws."""
        latent = self._latents.get(message.name)
        if latent is None or message.is_observed:
            return {"fn": message.fn, "value": message.value, "is_observed": message.is_observed}
        for frame in message.frames:
            if frame.size != frame.full_size:
                raise SiteError(
                    f"site '{message.name}': expected all {frame.full_size} rows of plate '{frame.name}' for "
                    f"NeuTraReparam, got a subsample of {frame.size}; drop subsample_size"
                )
        free = self._drawn(message).free(latent, {})
        transform = biject_to(message.fn.support)
        value = transform(free)
        slope = transform.log_abs_det_jacobian(free, value)
        missing = slope.dim() - (value.dim() - len(message.fn.event_shape))
        factor(f"{message.name}_density", message.fn.log_prob(value) + sum_rightmost(slope, missing))
        return {"fn": None, "value": value, "is_observed": False}

    def transform_sample(self, latent: torch.Tensor) -> dict[str, torch.Tensor]:
        """Values of the latent sites for vectors.

        Args:
            latent: shape (..., n).

        Returns:
            Values by site name, shape (..., *B, *E).
        """
        with torch.no_grad():
            vectors = self._transform()(latent).reshape(-1, self.guide.latent_dim)
            rank = self.guide.rank
            each = [
                self.guide.constrained(JointDraws(self.guide.latents, row, torch.Size(), rank), (), {})
                for row in vectors
            ]
        lead = latent.shape[:-1]
        together = {name: torch.stack([values[name] for values in each]) for name in each[0]}
        return {name: value.reshape(lead + value.shape[1:]) for name, value in together.items()}

    def _drawn(self, message: Message) -> JointDraws:
        """What the run's vector says; the first site of the guide draws it."""
        drawn = dict(_DRAWN.get() or {})
        if message.name == self.guide.latents[0].name:
            with _outside_plates(message):
                drawn[id(self)] = self._draw(message.name)
            _DRAWN.set(drawn)
        if id(self) not in drawn:
            raise SiteError(
                f"site '{message.name}': expected the sites in the order of the guide, with "
                f"'{self.guide.latents[0].name}' first, got it before; rewrite all sites by one NeuTraReparam"
            )
        return drawn[id(self)]

    def _draw(self, name: str) -> JointDraws:
        base: Any = self.guide.get_base_dist()
        noise = sample(f"{name}_shared_latent", base.mask(False), infer={"is_auxiliary": True})
        transform = self._transform()
        vector = transform(noise)
        factor(f"{name}_shared_density", transform.log_abs_det_jacobian(noise, vector))
        lead = vector.shape[: vector.dim() - 1 - self.guide.rank]
        return JointDraws(self.guide.latents, vector, lead, self.guide.rank)

    def _transform(self) -> Any:
        with stack.emptied(), torch.no_grad():
            return self.guide.get_transform()


@contextmanager
def _outside_plates(message: Message) -> Iterator[None]:
    """Run a block outside the model's plates that a site stands under."""
    frames = [frame for frame in message.frames if frame.name != PARTICLES]
    with stack.without(lambda entry: isinstance(entry, PlateScope) and entry.frame in frames):
        yield
