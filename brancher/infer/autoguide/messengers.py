"""Guides that run the model with other laws at its latent sites, so that a site's law may use its prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.distributions.transforms import AffineTransform, ComposeTransform

from brancher.distributions import Distribution, Normal, TransformedDistribution, constraints
from brancher.errors import GuideError
from brancher.handlers import Message, Messenger, block
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.normal import positive_scale, pushed_law
from brancher.infer.autoguide.prototype import Latent, all_rows, free_transform
from brancher.infer.autoguide.walk import Rows
from brancher.infer.initialization import Init, init_to_feasible, init_to_mean

Fn = Callable[..., Any]
Tensors = dict[str, torch.Tensor]


class AutoMessenger(AutoGuide, ABC):
    """The base of guides that run the model; each latent site is drawn from a law that may use its prior.

    A subclass writes :meth:`posterior`. Plates, masks and scales are those of the model.

    Args:
        model: the model.
        init_loc_fn: where to start.
        amortized_plates: names of plates whose rows share their parameters.
        prefix: see :class:`AutoGuide`.
    """

    def __init__(
        self,
        model: Fn,
        *,
        init_loc_fn: Init | None = None,
        amortized_plates: Iterable[str] = (),
        prefix: str | None = None,
    ) -> None:
        start = init_to_mean(fallback=init_to_feasible) if init_loc_fn is None else init_loc_fn
        super().__init__(model, start, prefix=prefix)
        self.amortized_plates = tuple(amortized_plates)

    @abstractmethod
    def posterior(self, latent: Latent, prior: Distribution, rows: Rows) -> Distribution:
        """The law of a latent site.

        Args:
            latent: what is known of the site.
            prior: its law in the model, given the sites that were drawn before.
            rows: the rows present of subsampled plates.
        """

    def middle(self, latent: Latent, prior: Distribution, rows: Rows) -> torch.Tensor:
        """The median of a latent site, given those of the sites before."""
        raise GuideError(
            f"{type(self).__name__}: expected a guide with medians, got one without; use sample_posterior"
        )

    def run(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        whole: Fn | None = None,
        known: Mapping[str, torch.Tensor] | None = None,
    ) -> Tensors:
        """Draw every latent site, by a run of the model."""
        self._prepare(args, kwargs)
        return self._through(_Laws(self), args, kwargs)

    def _through(self, laws: _Laws, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensors:
        with block(hide_fn=laws.is_hidden), laws:
            self.model(*args, **kwargs)
        return laws.values

    def median(self, *args: Any, **kwargs: Any) -> Tensors:
        """The median of every latent site given those of the sites before it, for the rows of this call."""
        self.setup(*args, **kwargs)
        with torch.no_grad():
            return self._through(_Laws(self, middle=True), args, kwargs)

    def sample_posterior(self, num_samples: int, *args: Any, **kwargs: Any) -> Tensors:
        """Draw from the fitted guide, one run of the model a draw; see :meth:`AutoGuide.sample_posterior`."""
        with torch.no_grad():
            each = [self(*args, **kwargs) for _ in range(num_samples)]
        return {name: torch.stack([one[name] for one in each]) for name in each[0]}

    # Parameters

    def _hold_shared(self, path: str, latent: Latent, value: torch.Tensor, constraint: Any) -> None:
        """Make a parameter with one row for each plate that shares its parameters."""
        for frame in latent.frames:
            if frame.name in self.amortized_plates and frame.dim is not None:
                value = value.mean(frame.dim - latent.free_dim, keepdim=True)
        self.hold(path, value, constraint)

    def _shown(self, path: str, latent: Latent, rows: Rows) -> torch.Tensor:
        """A parameter, shown to the handlers, for the rows present."""
        separate = {name: chosen for name, chosen in rows.items() if name not in self.amortized_plates}
        return latent.rows(self.read(path), separate, latent.free_dim)


class _Laws(Messenger):
    """Gives the latent sites of a model their laws in a guide."""

    def __init__(self, guide: AutoMessenger, middle: bool = False) -> None:
        super().__init__(None)
        self.guide, self.middle = guide, middle
        self.latents = {latent.name: latent for latent in guide.latents}
        self.rows: Rows = {}
        self.values: Tensors = {}

    def is_hidden(self, message: Message) -> bool:
        """Whether a site is kept from those around; they see latent sites, plates and own parameters."""
        is_own = message.type == "param" and message.name.startswith(f"{self.guide.registered_name}.")
        return not (is_own or message.type == "plate" or message.name in self.latents)

    def process_message(self, message: Message) -> None:
        latent = self.latents.get(message.name)
        if latent is None or message.type != "sample" or message.is_observed or message.value is not None:
            return
        if self.middle:
            message.value = self.guide.middle(latent, message.fn, self.rows)
        else:
            message.fn = self.guide.posterior(latent, message.fn, self.rows).expand(message.fn.batch_shape)

    def postprocess_message(self, message: Message) -> None:
        if message.type == "plate":
            self.rows[message.name] = message.value
        elif message.name in self.latents:
            self.values[message.name] = message.value


class AutoNormalMessenger(AutoMessenger):
    """The mean-field law of :class:`AutoNormal`, by a run of the model.

    Supports that depend on other draws, and plates of every kind, are those of the run. Parameters are
    ``AutoNormalMessenger.locs.<site>`` and ``AutoNormalMessenger.scales.<site>``.

    Args:
        model: the model.
        init_loc_fn: where to start; the prior mean by default.
        init_scale: first standard deviation in unconstrained space; > 0.
        amortized_plates: names of plates whose rows share their parameters.
        prefix: see :class:`AutoGuide`.

    Raises:
        GuideError: ``init_scale`` is not positive.

    Example:
        >>> from brancher.infer.autoguide import AutoNormalMessenger
        >>> guide = AutoNormalMessenger(lambda: sample("x", dist.Normal(3.0, 1.0)))
        >>> guide.median()
        {'x': tensor(3.)}
    """

    def __init__(
        self,
        model: Fn,
        *,
        init_loc_fn: Init | None = None,
        init_scale: float = 0.1,
        amortized_plates: Iterable[str] = (),
        prefix: str | None = None,
    ) -> None:
        super().__init__(model, init_loc_fn=init_loc_fn, amortized_plates=amortized_plates, prefix=prefix)
        self.init_scale = positive_scale(self, init_scale)

    def declare(self, latents: tuple[Latent, ...]) -> None:
        """Make a location and a scale for every site."""
        for latent in latents:
            self._hold_shared(f"locs.{latent.name}", latent, self._first_loc(latent), constraints.real)
            scale = torch.full_like(latent.free_start, self.init_scale)
            self._hold_shared(f"scales.{latent.name}", latent, scale, constraints.positive)

    def _first_loc(self, latent: Latent) -> torch.Tensor:
        return latent.free_start

    def _loc(self, latent: Latent, prior: Distribution, rows: Rows) -> torch.Tensor:
        return self._shown(f"locs.{latent.name}", latent, rows)

    def posterior(self, latent: Latent, prior: Distribution, rows: Rows) -> Distribution:
        """A normal law in unconstrained space, sent onto the prior's support."""
        loc = self._loc(latent, prior, rows)
        scale = self._shown(f"scales.{latent.name}", latent, rows)
        return pushed_law(latent, Normal(loc, scale, validate_args=False), free_transform(prior.support))

    def middle(self, latent: Latent, prior: Distribution, rows: Rows) -> torch.Tensor:
        """The image of the location."""
        loc, transform = self._loc(latent, prior, rows), free_transform(prior.support)
        value: torch.Tensor = loc if transform is None else transform(loc)
        return value.expand(prior.batch_shape + prior.event_shape).clone()


class AutoHierarchicalNormalMessenger(AutoNormalMessenger):
    """Normal laws whose locations follow the prior means: ``loc + weight * free(prior mean)``.

    So a site's law moves with the sites above it, as it does in the posterior of a hierarchical model, at the
    price of one weight more for each entry. With a weight of zero it is :class:`AutoNormalMessenger`.

    Args:
        model: the model.
        init_loc_fn: where to start; the prior mean by default.
        init_scale: first standard deviation in unconstrained space; > 0.
        amortized_plates: names of plates whose rows share their parameters.
        hierarchical_sites: names of the sites that have a weight; None for all whose prior has a mean.
        init_weight: first weight.
        prefix: see :class:`AutoGuide`.

    Raises:
        GuideError: ``init_scale`` is not positive, or the prior of one of ``hierarchical_sites`` has no mean.

    Example:
        >>> from brancher.infer.autoguide import AutoHierarchicalNormalMessenger
        >>> def model():
        ...     mu = sample("mu", dist.Normal(0.0, 1.0))
        ...     return sample("x", dist.Normal(mu, 0.1))
        >>> guide = AutoHierarchicalNormalMessenger(model)
        >>> sorted(guide()), guide.weights.x
        (['mu', 'x'], Parameter containing:
        tensor(1., requires_grad=True))
    """

    def __init__(
        self,
        model: Fn,
        *,
        init_loc_fn: Init | None = None,
        init_scale: float = 0.1,
        amortized_plates: Iterable[str] = (),
        hierarchical_sites: Iterable[str] | None = None,
        init_weight: float = 1.0,
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            model,
            init_loc_fn=init_loc_fn,
            init_scale=init_scale,
            amortized_plates=amortized_plates,
            prefix=prefix,
        )
        self.hierarchical_sites = None if hierarchical_sites is None else tuple(hierarchical_sites)
        self.init_weight = float(init_weight)

    def declare(self, latents: tuple[Latent, ...]) -> None:
        """Make a location, a scale and a weight for every site."""
        means = {latent.name: mean for latent in latents if (mean := self._first_mean(latent)) is not None}
        for latent in latents:
            if latent.name in means:
                weight = torch.full_like(latent.free_start, self.init_weight)
                self._hold_shared(f"weights.{latent.name}", latent, weight, constraints.real)
        self._means = means
        super().declare(latents)
        del self._means

    def _first_mean(self, latent: Latent) -> torch.Tensor | None:
        """The prior mean at the first run, with all rows; None for a site without a weight."""
        chosen = self.hierarchical_sites
        if chosen is not None and latent.name not in chosen:
            return None
        prior = self._forgotten[latent.name].fn  # type: ignore[index]
        mean = _free_mean(prior)
        if mean is not None and bool(torch.isfinite(mean).all()):
            return all_rows(mean, latent.frames, latent.free_dim)
        if chosen is None:
            return None
        raise GuideError(
            f"site '{latent.name}': expected a prior with a finite mean, got {type(prior).__name__}; leave "
            "the site out of hierarchical_sites"
        )

    def _first_loc(self, latent: Latent) -> torch.Tensor:
        mean = self._means.get(latent.name)
        return latent.free_start if mean is None else latent.free_start - self.init_weight * mean

    def _loc(self, latent: Latent, prior: Distribution, rows: Rows) -> torch.Tensor:
        loc, path = super()._loc(latent, prior, rows), f"weights.{latent.name}"
        mean = _free_mean(prior) if path in self.all_places() else None
        return loc if mean is None else loc + self._shown(path, latent, rows) * mean


def _free_mean(prior: Distribution) -> torch.Tensor | None:
    """The prior's mean in unconstrained space; None where it has none."""
    try:
        mean = prior.mean
    except NotImplementedError:
        return None
    transform = free_transform(prior.support)
    return mean if transform is None else transform.inv(mean)


class AutoRegressiveMessenger(AutoNormalMessenger):
    """The prior itself, shifted and scaled in unconstrained space: ``loc + scale * free(prior draw)``.

    So the guide keeps the model's dependencies, as a flow whose one layer is the model.

    Args:
        model: the model.
        init_loc_fn: where to start; the prior mean by default.
        init_scale: first scale, > 0; with 1.0 the guide begins as the prior.
        amortized_plates: names of plates whose rows share their parameters.
        prefix: see :class:`AutoGuide`.

    Raises:
        GuideError: ``init_scale`` is not positive.

    Example:
        >>> from brancher.infer.autoguide import AutoRegressiveMessenger
        >>> AutoRegressiveMessenger(lambda: sample("x", dist.Normal(3.0, 1.0)))()["x"].shape
        torch.Size([])
    """

    def _first_loc(self, latent: Latent) -> torch.Tensor:
        # Draws of a prior whose mean is the start are then around it.
        return latent.free_start * (1 - self.init_scale)

    def middle(self, latent: Latent, prior: Distribution, rows: Rows) -> torch.Tensor:
        """There is none in closed form."""
        return AutoMessenger.middle(self, latent, prior, rows)

    def posterior(self, latent: Latent, prior: Distribution, rows: Rows) -> Distribution:
        """The prior, sent to unconstrained space, moved, and sent back."""
        loc = self._shown(f"locs.{latent.name}", latent, rows)
        scale = self._shown(f"scales.{latent.name}", latent, rows)
        move = AffineTransform(loc, scale, event_dim=latent.free_dim, cache_size=1)
        transform = free_transform(prior.support)
        if transform is None:
            return TransformedDistribution(prior, [move])
        there_and_back = [transform.inv.with_cache(), move, transform.with_cache()]
        return TransformedDistribution(prior, [ComposeTransform(there_and_back)])
