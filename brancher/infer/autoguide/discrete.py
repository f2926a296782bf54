"""``AutoDiscreteParallel``: a table of probabilities for each discrete site, all values at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from brancher.distributions import Bernoulli, Categorical, OneHotCategorical, constraints
from brancher.errors import GuideError
from brancher.handlers import Frame, Message, Trace, trace
from brancher.infer.autoguide.module import GuideModule
from brancher.infer.autoguide.prototype import aside
from brancher.infer.autoguide.walk import Rows
from brancher.primitives import plate, sample

if TYPE_CHECKING:
    from typing_extensions import Self

Fn = Callable[..., Any]
Tensors = dict[str, torch.Tensor]

#: By family, the rank of its probabilities for one draw, and where they lie.
_FAMILIES: dict[type, tuple[int, Any]] = {
    Bernoulli: (0, constraints.unit_interval),
    Categorical: (1, constraints.simplex),
    OneHotCategorical: (1, constraints.simplex),
}

#: Share of the uniform law in the first probabilities, which keeps them off the ends.
_UNIFORM = 1e-3


class _Site(NamedTuple):
    """A discrete site: its name, its family and the plates it stands under."""

    name: str
    family: type
    frames: tuple[Frame, ...]


class AutoDiscreteParallel(GuideModule):
    """Guide discrete sites by independent laws, for a :class:`TraceEnum_ELBO` to sum over.

    Mostly a part of an :class:`AutoGuideList`, beside a guide for the continuous sites. Where the model's
    discrete sites can be summed out exactly, leave them out of the guide instead: that is tighter.

    Parameters are ``AutoDiscreteParallel.probs.<site>``, for all rows of every plate; they begin as the
    prior's probabilities in the first run.

    Args:
        model: the model, with other sites hidden (``handlers.block``).
        prefix: see :class:`AutoGuide`.

    Raises:
        GuideError: at the first call, a latent site is of another family than Bernoulli, Categorical and
            OneHotCategorical; or the model chooses the rows of a plate.

    Example:
        >>> from brancher.infer import TraceEnum_ELBO
        >>> from brancher.infer.autoguide import AutoDiscreteParallel
        >>> def model():
        ...     z = sample("z", dist.Categorical(torch.tensor([0.2, 0.8])))
        ...     sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.3))
        >>> guide = AutoDiscreteParallel(model)
        >>> TraceEnum_ELBO().loss(model, guide) > 0
        True
        >>> guide.probs.z
        tensor([0.2003, 0.7997], grad_fn=...)
    """

    def __init__(self, model: Fn, *, prefix: str | None = None) -> None:
        super().__init__(model, prefix)
        self._sites: tuple[_Site, ...] = ()

    def setup(self, *args: Any, **kwargs: Any) -> Self:
        """Look at the model with example arguments and make the parameters, if that is not done."""
        if not self._sites:
            sites = self._look(args, kwargs)
            for site in sites:
                self._declare(site)
            self._sites = tuple(_Site(s.name, type(s.fn), tuple(_batched(s))) for s in sites)
            self.forget_caches()
        self.register()
        return self

    def _look(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Message]:
        with aside():
            record = trace(self.model).get_trace(*args, **kwargs)
        sites = [record[name] for name in record.stochastic_nodes]
        if not sites:
            raise GuideError(
                "AutoDiscreteParallel: expected a model with discrete sites, got no latent sites"
            )
        for site in sites:
            if type(site.fn) not in _FAMILIES:
                raise GuideError(
                    f"AutoDiscreteParallel: expected latent sites of {[f.__name__ for f in _FAMILIES]}, got "
                    f"{type(site.fn).__name__} at site '{site.name}'; hide it with handlers.block(model, "
                    f"hide=['{site.name}'])"
                )
        self._refuse_given_rows(record, sites)
        return sites

    def _refuse_given_rows(self, record: Trace, sites: list[Message]) -> None:
        for frame in {frame.name: frame for site in sites for frame in site.frames}.values():
            chosen = record.nodes.get(frame.name)
            if chosen is not None and chosen.kwargs.get("subsample_size") is None:
                raise GuideError(
                    f"AutoDiscreteParallel: expected rows of plate '{frame.name}' that the guide can draw, "
                    "got subsample=; give the plate subsample_size instead"
                )

    def _declare(self, site: Message) -> None:
        rank, constraint = _FAMILIES[type(site.fn)]
        probs = site.fn.probs.detach()
        for frame in _batched(site):
            if frame.size != frame.full_size:
                dim = frame.dim - rank  # type: ignore[operator]
                mean = probs.mean(dim, keepdim=True)
                probs = mean.expand(
                    [n if i != probs.dim() + dim else frame.full_size for i, n in enumerate(probs.shape)]
                )
        count = probs.shape[-1] if rank else 2
        self.hold(f"probs.{site.name}", (1.0 - _UNIFORM) * probs + _UNIFORM / count, constraint)

    def forward(self, *args: Any, **kwargs: Any) -> Tensors:
        """Draw every site, or enumerate it where a handler asks.

        Returns:
            Values by site name.
        """
        self.setup(*args, **kwargs)
        rows: Rows = {}
        plates: dict[str, plate] = {}
        values: Tensors = {}
        for site in self._sites:
            rank, _ = _FAMILIES[site.family]
            probs = self.read(f"probs.{site.name}")
            with ExitStack() as opened:
                for frame in site.frames:
                    if frame.name not in plates:
                        size = frame.size if frame.size != frame.full_size else None
                        plates[frame.name] = plate(frame.name, frame.full_size, size, dim=frame.dim)
                        rows[frame.name] = None if size is None else plates[frame.name].indices
                    chosen = rows[frame.name]
                    if chosen is not None:
                        probs = probs.index_select(frame.dim - rank, chosen)  # type: ignore[operator]
                    opened.enter_context(plates[frame.name])
                law = site.family(probs=probs, validate_args=False)
                values[site.name] = sample(site.name, law, infer={"enumerate": "parallel"})
        return values

    def median(self, *args: Any, **kwargs: Any) -> Tensors:
        """Nothing: discrete sites have no medians."""
        return {}


def _batched(site: Message) -> list[Frame]:
    """The plates of a site that are batch dimensions."""
    return [frame for frame in site.frames if frame.dim is not None]
