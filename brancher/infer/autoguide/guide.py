"""The base of the guides that are made from a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from brancher.distributions import Distribution
from brancher.distributions.validation import is_validating
from brancher.errors import GuideError, InferenceError, PlateError
from brancher.handlers import Frame, Trace
from brancher.handlers.plate import PlateScope, open_frames
from brancher.infer.autoguide.draws import Draws, Starts
from brancher.infer.autoguide.module import can_be_pickled
from brancher.infer.autoguide.prototype import Latent, aside, look, without_padding
from brancher.infer.autoguide.walk import Rows, Spot, renewed, usual_spot, walk
from brancher.infer.autoguide.written import WrittenGuide
from brancher.infer.checks import shapes_of, warn_forgotten_data
from brancher.infer.initialization import Init, init_to_feasible
from brancher.primitives import plate, sample
from brancher.staging import random_state_kept

if TYPE_CHECKING:
    from typing_extensions import Self

Fn: TypeAlias = Callable[..., Any]
Tensors: TypeAlias = dict[str, torch.Tensor]

#: Never the name of a site: a walk that wants it goes to the model's end.
_EVERYTHING = ""
_UNWRITTEN = "{}: expected a guide with forward, or with declare and draws, got neither; write them"


class AutoGuide(WrittenGuide):
    """A guide made from a model: its latent sites, plates and supports are read off one run.

    That run is made at the first call, or by :meth:`setup`; random state and handlers are left
    as they were. The guide opens the model's plates with their dimensions. It draws the rows of
    a subsampled plate itself and the model follows; where the model gives ``subsample=``, the
    guide asks the model for its rows. A support that depends on other draws or on arguments,
    such as that of ``Uniform(0, a)``, is asked for at every call as well.

    Parameters are the module's own tensors in unconstrained space, so ``state_dict``, ``to`` and
    torch's optimizers work on them once the guide is set up; they are read constrained, under
    names such as ``AutoNormal.scales.x``.

    A subclass that writes ``forward`` itself is a guide by hand with the attributes of a ``PyroModule``, for
    a part of an :class:`AutoGuideList`.

    Args:
        model: the model.
        init_loc_fn: where to start, one of ``infer.init_to_...``.
        create_plates: called with the model's arguments, returns the plates to use for
            subsampling, one or several; None to make them as the model does.
        prefix: first part of the parameters' names; None for the class name.

    Raises:
        GuideError: the model is no function.
    """

    caches = WrittenGuide.caches | {"_seen", "_forgotten", "_example"}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.is_written = cls.forward is not AutoGuide.forward

    def __init__(
        self,
        model: Fn,
        init_loc_fn: Init = init_to_feasible,
        *,
        create_plates: Fn | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(model, prefix)
        if not callable(init_loc_fn):
            raise GuideError(
                f"{type(self).__name__}: expected init_loc_fn as a function of the site, got "
                f"{type(init_loc_fn).__name__}; write init_loc_fn=init_to_value(values={{'x': 0.0}})"
            )
        self.init_loc_fn, self.create_plates = init_loc_fn, create_plates
        self._latents: tuple[Latent, ...] = ()
        self._given: frozenset[str] = frozenset()

    def forget_caches(self) -> None:
        """Drop what follows from the rest."""
        super().forget_caches()
        self._seen: set[Any] = set()
        self._forgotten: Trace | None = None
        self._example: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    @property
    def latents(self) -> tuple[Latent, ...]:
        """The latent sites, in the model's order; empty before the guide is set up."""
        return self._latents

    @property
    def rank(self) -> int:
        """How many batch dimensions the latent sites use."""
        ranks = [len(latent.batch_shape) for latent in self._latents]
        return max([0, *ranks, *(-f.dim for latent in self._latents for f in latent.frames if f.dim)])

    # What a kind of guide decides

    def declare(self, latents: tuple[Latent, ...]) -> None:
        """Make the parameters for the latent sites."""
        raise NotImplementedError(_UNWRITTEN.format(type(self).__name__))

    def draws(self, lead: torch.Size) -> Draws:
        """Draw all latent sites, with ``lead`` batch dimensions on the left."""
        raise NotImplementedError(_UNWRITTEN.format(type(self).__name__))

    def issue(self, lead: torch.Size) -> Draws:
        """Draw all latent sites inside a call, where guides may show auxiliary sites."""
        return self.draws(lead)

    def asks(self, latent: Latent) -> bool:
        """Whether the model must be asked about a site at every call."""
        return latent.is_bounded or latent.is_masked

    # Setting up

    def setup(self, *args: Any, **kwargs: Any) -> Self:
        """Look at the model with example arguments and make the parameters, if that is not done.

        Args:
            *args: the model's arguments.
            **kwargs: its keyword arguments.

        Returns:
            The guide itself.

        Raises:
            GuideError: a latent site is discrete, or its initial value is outside its support.
            InferenceError: the model has no latent site.
        """
        if not self._latents and not self.is_written:
            shown = look(self.model, self.init_loc_fn, args, kwargs, type(self).__name__)
            self._forgotten = shown.trace
            with random_state_kept():
                self.declare(shown.latents)
            self._latents, self._given = shown.latents, shown.given
            self.forget_caches()
            self._forgotten, self._example = shown.trace, (args, kwargs)
        self.register()
        return self

    def adopt(self, other: AutoGuide) -> None:
        """Take over what another guide has seen of the same model, and make parameters for it."""
        with random_state_kept():
            self.declare(other._latents)
        self._latents, self._given = other._latents, other._given
        self.register()

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.setup(*args, **kwargs)
        if is_validating():
            if self._forgotten is not None:
                # Kept until warnings are heard: an ELBO tries particles out in silence first.
                record, self._forgotten = self._forgotten, None
                warn_forgotten_data(record, type(self).__name__)
            self._notice(args, kwargs)

    def _notice(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """At the first sight of new argument shapes, see what now depends on the call."""
        key = (shapes_of(args), shapes_of(kwargs))
        if key in self._seen or not self.has_model:
            return
        self._seen.add(key)
        rows: Rows = {}
        spots: dict[str, Spot] = {}

        def note(latent: Latent, spot: Spot) -> torch.Tensor:
            spots[latent.name] = spot
            return Starts().value(latent, spot.rows, spot.transform)

        try:
            with aside():
                walk(self.model, self._latents, note, rows, [_EVERYTHING], args, kwargs)
        except Exception:  # these arguments are not the model's; whoever runs the model is told
            return
        self._given |= rows.keys()
        self._latents = tuple(renewed(latent, spots.get(latent.name)) for latent in self._latents)

    # Drawing

    def forward(self, *args: Any, **kwargs: Any) -> Tensors:
        """Draw every latent site.

        Returns:
            Values by site name.
        """
        return self.run(args, kwargs)

    def run(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        whole: Fn | None = None,
        known: Mapping[str, torch.Tensor] | None = None,
    ) -> Tensors:
        """Draw every latent site, as a part of a guide for more sites.

        Args:
            args: the model's arguments.
            kwargs: its keyword arguments.
            whole: the model to ask, with all sites; None for the guide's own.
            known: values of sites that other parts have drawn; None where there are no other parts.
        """
        self._prepare(args, kwargs)
        draws, rows = self.issue(self._lead()), self._rows(args, kwargs)
        scopes: dict[str, PlateScope] = {}
        values: Tensors = {}

        def visit(latent: Latent, spot: Spot) -> torch.Tensor:
            value = _sample(latent, draws.law(latent, spot), spot.rows, scopes)
            values[latent.name] = value
            return value

        wanted = self._wanted(rows)
        if wanted:
            walk(whole or self.model, self._latents, visit, rows, wanted, args, kwargs, known)
        for latent in self._latents:
            if latent.name not in values:
                visit(latent, usual_spot(latent, rows))
        return values

    def _lead(self) -> torch.Size:
        """Sizes of the batch dimensions, left of the guide's own, that plates around the guide open."""
        around = {frame.dim: frame for frame in open_frames() if frame.dim is not None}
        if not around:
            return torch.Size()
        rank = self.rank
        inside = [frame.name for dim, frame in around.items() if dim >= -rank]
        if inside:
            raise PlateError(
                f"{type(self).__name__}: expected plates around it left of dim {-rank}, which its sites use, "
                f"got {inside}; give them dim={-1 - rank} or less"
            )
        return torch.Size(around[d].size if d in around else 1 for d in range(min(around), -rank))

    def _rows(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rows:
        """Indices of the plates whose rows the guide draws, or ``create_plates`` gives."""
        rows: Rows = {}
        if self.create_plates is not None:
            made = self.create_plates(*args, **kwargs)
            for each in [made] if isinstance(made, plate) else made:
                rows[each.name] = each.indices if each.subsample_size != each.size else None
        for latent in self._latents:
            for frame in latent.frames:
                if frame.size == frame.full_size or frame.name in rows or frame.name in self._given:
                    continue
                device = latent.free_start.device
                drawn = plate(frame.name, frame.full_size, frame.size, dim=frame.dim, device=device)
                rows[frame.name] = drawn.indices
        return rows

    def _wanted(self, rows: Rows) -> list[str]:
        """What only the model knows: sites whose support or mask, plates whose rows, depend on the call."""
        wanted = [latent.name for latent in self._latents if self.asks(latent)]
        if self._given:
            plates = {frame.name for latent in self._latents for frame in latent.frames}
            wanted.extend(name for name in plates if name in self._given and name not in rows)
        return wanted

    # Looking at the fit

    def constrained(self, draws: Draws, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensors:
        """Values of every latent site, with all rows of every plate.

        Rows are those of the call only where a support must be asked from the model; without arguments
        it is asked with those that the guide was set up with.
        """
        if not args and not kwargs:
            args, kwargs = self._example
        values: Tensors = {}
        rows: Rows = {}

        def visit(latent: Latent, spot: Spot) -> torch.Tensor:
            value = draws.value(latent, spot.rows, spot.transform)
            values[latent.name] = value
            return value

        bounded = [latent.name for latent in self._latents if latent.is_bounded]
        if bounded:
            rows = self._rows(args, kwargs)
            walk(self.model, self._latents, visit, rows, bounded, args, kwargs)
        for latent in self._latents:
            if latent.name not in values:
                visit(latent, usual_spot(latent, rows))
        return {latent.name: values[latent.name] for latent in self._latents}

    def sample_posterior(self, num_samples: int, *args: Any, **kwargs: Any) -> Tensors:
        """Draw from the fitted guide, all rows of subsampled plates included.

        Args:
            num_samples: how many draws, > 0.
            *args: the model's arguments; needed before the guide is set up, and where supports
                depend on them.
            **kwargs: its keyword arguments.

        Returns:
            Values by site name, shape (num_samples, *B, *E).

        Raises:
            InferenceError: ``num_samples`` is not a positive int.
        """
        if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
            raise InferenceError(
                f"{type(self).__name__}.sample_posterior: expected num_samples as an int > 0, got "
                f"{num_samples!r}; write sample_posterior(1000, *args)"
            )
        self.setup(*args, **kwargs)
        with torch.no_grad():
            if any(latent.is_bounded for latent in self._latents):
                # A run of the model is one draw: nothing says that it takes a batch.
                each = [self.constrained(self.draws(torch.Size()), args, kwargs) for _ in range(num_samples)]
                return {name: torch.stack([one[name] for one in each]) for name in each[0]}
            batch = self.constrained(self.draws(torch.Size([num_samples])), args, kwargs)
            return {latent.name: without_padding(latent, batch[latent.name]) for latent in self._latents}

    def median(self, *args: Any, **kwargs: Any) -> Tensors:
        """The guide's median of every latent site, by name; shape B + E.

        Raises:
            GuideError: the guide has no such thing.
        """
        raise GuideError(
            f"{type(self).__name__}: expected a guide with medians, got one without; use sample_posterior"
        )

    def quantiles(
        self, quantiles: float | Sequence[float] | torch.Tensor, *args: Any, **kwargs: Any
    ) -> Tensors:
        """Quantiles of every latent site, by name; see :class:`AutoNormal`.

        Raises:
            GuideError: the guide has no such thing.
        """
        raise GuideError(
            f"{type(self).__name__}: expected a guide with quantiles, got one without; use sample_posterior"
        )

    # State

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load what ``state_dict`` gave, into a guide that is set up.

        Raises:
            GuideError: the guide is not set up yet.
        """
        if not self._latents and state_dict and not self.is_written:
            raise GuideError(
                f"{type(self).__name__}: expected a guide that has seen example arguments, got a fresh one; "
                "call guide.setup(*args) before load_state_dict"
            )
        return super().load_state_dict(state_dict, *args, **kwargs)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        # What .to() and .double() do to the parameters, the first values follow.
        self._latents = tuple(
            replace(latent, start=fn(latent.start), free_start=fn(latent.free_start))
            for latent in self._latents
        )
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for key in ("create_plates", "init_loc_fn"):
            if not can_be_pickled(state[key]):
                state[key] = None
        return state


def _sample(latent: Latent, law: Distribution, rows: Rows, scopes: dict[str, PlateScope]) -> torch.Tensor:
    """Issue a site inside its plates."""
    if not latent.frames:
        return sample(latent.name, law)
    with ExitStack() as opened:
        for frame in latent.frames:
            if frame.name not in scopes:
                scopes[frame.name] = _scope(frame, rows.get(frame.name))
            opened.enter_context(scopes[frame.name])
        return sample(latent.name, law)


def _scope(frame: Frame, rows: torch.Tensor | None) -> PlateScope:
    return PlateScope(replace(frame, size=frame.full_size if rows is None else len(rows)), rows)
