"""``AutoNormal``: independent normals in unconstrained space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.distributions.transforms import Transform

from brancher.distributions import Distribution, Normal, TransformedDistribution, constraints
from brancher.distributions.shapes import sum_rightmost
from brancher.distributions.special import HALF_LOG_2PI
from brancher.errors import GuideError
from brancher.infer.autoguide.drawn import Drawn
from brancher.infer.autoguide.draws import Draws
from brancher.infer.autoguide.guide import AutoGuide
from brancher.infer.autoguide.points import Points, at_quantiles
from brancher.infer.autoguide.prototype import Latent
from brancher.infer.autoguide.walk import Rows, Spot
from brancher.infer.initialization import Init, init_to_feasible

Fn = Callable[..., Any]
Tensors = dict[str, torch.Tensor]


class AutoNormal(AutoGuide):
    """Guide each latent site by independent normals in unconstrained space (mean field).

    A draw ``z ~ Normal(loc, scale)`` is sent onto the site's support by ``biject_to``; the guide's
    density counts the Jacobian. Automatic differentiation variational inference, Kucukelbir et
    al. 2017, arXiv:1603.00788, section 2. Sites of a subsampled plate have parameters for all
    rows, of which a call uses those present.

    Parameters are ``AutoNormal.locs.<site>`` and ``AutoNormal.scales.<site>``, both of the site's
    unconstrained shape; scales are positive and read constrained.

    Args:
        model: the model.
        init_loc_fn: where to start.
        init_scale: first standard deviation in unconstrained space; > 0.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Raises:
        GuideError: ``init_scale`` is not positive.

    Example:
        >>> from brancher.infer.autoguide import AutoNormal
        >>> guide = AutoNormal(lambda: sample("x", dist.Gamma(2.0, 1.0)))
        >>> guide.median()
        {'x': tensor(1.)}
        >>> guide.scales.x
        tensor(0.1000, grad_fn=...)
    """

    def __init__(
        self,
        model: Fn,
        init_loc_fn: Init = init_to_feasible,
        init_scale: float = 0.1,
        *,
        create_plates: Fn | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(model, init_loc_fn, create_plates=create_plates, prefix=prefix)
        self.init_scale = positive_scale(self, init_scale)

    def declare(self, latents: tuple[Latent, ...]) -> None:
        """Make a location and a scale for every site."""
        for latent in latents:
            self.hold(f"locs.{latent.name}", latent.free_start)
            scale = torch.full_like(latent.free_start, self.init_scale)
            self.hold(f"scales.{latent.name}", scale, constraints.positive)

    def draws(self, lead: torch.Size) -> NormalDraws:
        """Draw all sites at once."""
        return NormalDraws(self.latents, *self.locs_and_scales(), lead, self.rank)

    def locs_and_scales(self) -> tuple[Tensors, Tensors]:
        """The parameters by site, shown to the handlers."""
        places, names = self.all_places(), [latent.name for latent in self.latents]
        locs = {name: places[f"locs.{name}"] for name in names}
        scales = {name: places[f"scales.{name}"] for name in names}
        leaves = [place.leaf for place in scales.values()]
        # One exp for all sites: where they are many, the number of operations is the cost.
        values = _cut(_joined(leaves).exp(), [leaf.shape for leaf in leaves])
        return (
            {n: self.show(p, p.leaf) for n, p in locs.items()},
            {n: self.show(p, value) for (n, p), value in zip(scales.items(), values, strict=True)},
        )

    @torch.no_grad()
    def median(self, *args: Any, **kwargs: Any) -> Tensors:
        """The median of every latent site, by name, shape B + E, all rows of every plate.

        For a site of several dependent entries, such as a simplex, the image of the median in
        unconstrained space.
        """
        self.setup(*args, **kwargs)
        locs, _ = self.locs_and_scales()
        # Copies: later steps must not change what was asked for now.
        points = Points({name: loc.clone() for name, loc in locs.items()})
        return self.constrained(points, args, kwargs)

    @torch.no_grad()
    def quantiles(
        self, quantiles: float | Sequence[float] | torch.Tensor, *args: Any, **kwargs: Any
    ) -> Tensors:
        """Quantiles of every latent site.

        Args:
            quantiles: probabilities in (0, 1); one or several.
            *args: the model's arguments.
            **kwargs: its keyword arguments.

        Returns:
            By name; several quantiles stand in a dimension on the left.
        """
        self.setup(*args, **kwargs)
        locs, scales = self.locs_and_scales()
        return at_quantiles(self, locs, scales, quantiles, args, kwargs)


class Batch:
    """The draws of several sites, made by a few operations on one vector.

    Args:
        locs: means.
        scales: standard deviations.
        shapes: of the draws, whose rightmost dimensions are those of ``locs``.
        lead: batch dimensions on the left of several sites.

    Attributes:
        free: the draws.
    """

    def __init__(
        self, locs: list[torch.Tensor], scales: list[torch.Tensor], shapes: list[torch.Size], lead: torch.Size
    ) -> None:
        self.loc, self.scale, self.shapes = _joined(locs), _joined(scales), shapes
        shape = shapes[0] if len(shapes) == 1 else lead + self.loc.shape
        self.noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).normal_()
        self.vector = torch.addcmul(self.loc, self.noise, self.scale)
        self.free = _cut(self.vector, shapes)
        self._densities: Sequence[torch.Tensor] | None = None

    def density(self, i: int) -> torch.Tensor:
        """Log-density of every entry of site ``i``, in nats."""
        if self._densities is None:  # made when the first one is asked for
            self._densities = _cut(self.entries(), self.shapes)
        return self._densities[i]

    def entries(self) -> torch.Tensor:
        """Log-density of every entry of all sites, in nats."""
        return self.noise * self.noise * -0.5 - (self.scale.log() + HALF_LOG_2PI)


class NormalDraws(Draws):
    """Normal draws of all sites, made by a few operations on one flat vector.

    Args:
        latents: the sites.
        locs: means by site, all rows.
        scales: standard deviations by site.
        lead: batch dimensions on the left.
        rank: batch dimensions that sites use.
    """

    batch: type[Batch] = Batch

    def __init__(
        self, latents: tuple[Latent, ...], locs: Tensors, scales: Tensors, lead: torch.Size, rank: int
    ) -> None:
        self.latents, self.locs, self.scales, self.lead, self.rank = latents, locs, scales, lead, rank
        self.parts: dict[str, _Part] = {}

    def value(self, latent: Latent, rows: Rows, transform: Transform | None) -> torch.Tensor:
        """A site's draw on its support."""
        if latent.name not in self.parts:
            self._draw([latent], rows)
        free = self.parts[latent.name].free
        return free if transform is None else transform(free)

    def law(self, latent: Latent, spot: Spot) -> Distribution:
        """Normal, sent onto the support."""
        if latent.name not in self.parts:
            # While the model is being asked, other sites' rows may not be known.
            pending = [other for other in self.latents if other.name not in self.parts]
            self._draw([latent] if spot.is_asked else pending, spot.rows)
        part, transform = self.parts[latent.name], spot.transform
        value = part.free if transform is None else transform(part.free)
        law = Drawn(
            value,
            lambda: pushed_density(latent, part.log_density(), part.free, value, transform),
            lambda: pushed_law(latent, part.base(), transform),
            latent.event_dim,
            spot.support,
        )
        return law if spot.mask is None else law.mask(spot.mask)

    def _draw(self, latents: list[Latent], rows: Rows) -> None:
        locs = [x.rows(self.locs[x.name], rows, x.free_dim) for x in latents]
        scales = [x.rows(self.scales[x.name], rows, x.free_dim) for x in latents]
        shapes = [loc.shape for loc in locs]
        if self.lead:
            pad = [self.rank - len(loc.shape) + x.free_dim for x, loc in zip(latents, locs, strict=True)]
            shapes = [self.lead + (1,) * n + shape for n, shape in zip(pad, shapes, strict=True)]
        batch = self.batch(locs, scales, shapes, self.lead)
        for i, latent in enumerate(latents):
            free = batch.free[i].to(locs[i].dtype)
            self.parts[latent.name] = _Part(free, locs[i], scales[i], batch, i)


class _Part(NamedTuple):
    """One site's part of a batch."""

    free: torch.Tensor
    loc: torch.Tensor
    scale: torch.Tensor
    batch: Batch
    i: int

    def log_density(self) -> torch.Tensor:
        return self.batch.density(self.i)

    def base(self) -> Distribution:
        return Normal(self.loc.expand(self.free.shape), self.scale, validate_args=False)


def _joined(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Tensors end to end in one vector; one alone as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat([t.reshape(-1) for t in tensors])


def _cut(whole: torch.Tensor, shapes: Sequence[torch.Size]) -> Sequence[torch.Tensor]:
    """Take apart what :func:`_joined` has joined, with dimensions in front if shapes have them."""
    if len(shapes) == 1:
        return (whole,)
    front = whole.shape[:-1].numel()
    parts = whole.split_with_sizes([shape.numel() // front for shape in shapes], -1)
    return [
        part if part.shape == shape else part.reshape(shape)
        for part, shape in zip(parts, shapes, strict=True)
    ]


def pushed_density(
    latent: Latent,
    entries: torch.Tensor,
    free: torch.Tensor,
    value: torch.Tensor,
    transform: Transform | None,
) -> torch.Tensor:
    """Log-density on the support from that of every unconstrained entry: minus log |dvalue/dfree|."""
    density = sum_rightmost(entries, latent.free_dim)
    return density if transform is None else density - log_slope(latent, free, value, transform)


def log_slope(latent: Latent, free: torch.Tensor, value: torch.Tensor, transform: Transform) -> torch.Tensor:
    """Log |dvalue/dfree| of one site, shape lead + B."""
    slope: torch.Tensor = transform.log_abs_det_jacobian(free, value)
    return sum_rightmost(slope, latent.event_dim - transform.codomain.event_dim)


def pushed_law(latent: Latent, base: Distribution, transform: Transform | None) -> Distribution:
    """The law on the support of one with independent entries in unconstrained space."""
    if transform is None:
        return base.to_event(latent.free_dim)
    law = TransformedDistribution(base.to_event(latent.free_dim), [transform], validate_args=False)
    return law.to_event(latent.event_dim - len(law.event_shape))


def positive_scale(guide: AutoGuide, init_scale: Any) -> float:
    """Check ``init_scale``.

    Raises:
        GuideError: it is not a positive number.
    """
    if (
        isinstance(init_scale, bool)
        or not isinstance(init_scale, (int, float))
        or not 0 < init_scale < float("inf")
    ):
        raise GuideError(
            f"{type(guide).__name__}: expected init_scale as a number > 0, got {init_scale!r}; try 0.1"
        )
    return float(init_scale)
