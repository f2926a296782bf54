"""``AutoStructured``: a law for each site, and how the sites lean on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributions.transforms import Transform

from brancher.distributions import Distribution, constraints
from brancher.errors import GuideError, nearest
from brancher.handlers import Message, block, substitute
from brancher.infer.autoguide.continuous import AutoContinuous, JointDraws
from brancher.infer.autoguide.drawn import Drawn
from brancher.infer.autoguide.flow import show_parameter
from brancher.infer.autoguide.normal import positive_scale
from brancher.infer.autoguide.prototype import Latent, is_enumerated, rows_present
from brancher.infer.autoguide.structured_law import (
    Part,
    StructuredDraws,
    StructuredLaw,
    StructuredTransform,
)
from brancher.infer.dependencies import get_dependencies
from brancher.infer.initialization import Init, init_to_feasible
from brancher.infer.particles import particle_plate

if TYPE_CHECKING:
    from typing_extensions import Self

Fn = Callable[..., Any]
Tensors = dict[str, torch.Tensor]

KINDS = ("delta", "normal", "mvn")


class AutoStructured(AutoContinuous):
    """Guide each latent site by a law of its own, moved along with the sites that it depends on.

    In unconstrained space a site is ``loc + u`` with ``u = noise + sum_s f_s(u_s)`` over the sites ``s``
    that it depends on. Noise is that of the site's conditional law; maps ``f_s`` are matrices, or
    functions. As the shifts have a Jacobian of one, any maps will do. With ``"mvn"`` and ``"linear"`` the
    guide is a normal law whose precision matrix has blocks of zeros where sites do not depend on each
    other.

    Parameters are ``AutoStructured.locs.<site>``, ``.scales.<site>``, ``.scale_trils.<site>`` (unit diagonal)
    and ``.deps.<site>.<upstream site>``, a matrix of shape (entries of the site, entries upstream) that
    begins as zero.

    Args:
        model: the model.
        conditionals: the law of the noise, or laws by site: ``"delta"`` for none, ``"normal"`` for
            independent entries, ``"mvn"`` for correlated ones; or a function without arguments that draws
            it by ``sample`` and ``param``, a vector of the site's entries.
        dependencies: ``"linear"`` for a matrix between any two sites that depend on each other in the
            posterior (:func:`~brancher.infer.get_dependencies`); or, by site, the sites upstream with
            ``"linear"`` or a function from the entries ``u_s`` upstream to those of the site.
        init_loc_fn: where to start.
        init_scale: first standard deviation in unconstrained space; > 0.
        create_plates: see :class:`AutoGuide`.
        prefix: see :class:`AutoGuide`.

    Raises:
        GuideError: a law or a map is of another kind; or, at the first call, a site is unknown or has no
            law, or sites depend on each other in a circle.

    Example:
        >>> from brancher.infer.autoguide import AutoStructured
        >>> def model():
        ...     a = sample("a", dist.LogNormal(0.0, 1.0))
        ...     with plate("row", 3):
        ...         b = sample("b", dist.Normal(a, 1.0))
        ...         sample("y", dist.Normal(b, 1.0), obs=torch.ones(3))
        >>> guide = AutoStructured(model, conditionals={"a": "normal", "b": "mvn"})
        >>> sorted(name for name, _ in guide.setup().named_parameters())
        ['deps.b.a', 'locs.a', 'locs.b', 'scale_trils.b', 'scales.a', 'scales.b']
    """

    def __init__(
        self,
        model: Fn,
        *,
        conditionals: str | Mapping[str, str | Fn] = "mvn",
        dependencies: str | Mapping[str, Mapping[str, str | Fn]] = "linear",
        init_loc_fn: Init = init_to_feasible,
        init_scale: float = 0.1,
        create_plates: Fn | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(model, init_loc_fn, create_plates=create_plates, prefix=prefix)
        self.init_scale = positive_scale(self, init_scale)
        _check_kinds("conditionals", conditionals, KINDS)
        if isinstance(dependencies, Mapping):
            for downstream, maps in dependencies.items():
                if not isinstance(maps, Mapping):
                    raise GuideError(
                        f"AutoStructured: expected dependencies of site '{downstream}' by site upstream, got "
                        f"{maps!r}; write dependencies={{'{downstream}': {{'a': 'linear'}}}}"
                    )
                _check_kinds(f"dependencies of site '{downstream}'", maps, ("linear",))
        else:
            _check_kinds("dependencies", dependencies, ("linear",))
        self.conditionals, self.dependencies = conditionals, dependencies
        self._kinds: dict[str, str | Fn] = {}
        self._maps: dict[str, dict[str, str | Fn]] = {}
        self._order: list[str] = []
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] = (), {}
        self.functions = nn.ModuleList()

    # Setting up

    def setup(self, *args: Any, **kwargs: Any) -> Self:
        """Look at the model with example arguments and make the parameters, if that is not done."""
        self._arguments = args, kwargs
        try:
            return super().setup(*args, **kwargs)
        finally:
            self._arguments = (), {}

    def declare(self, latents: tuple[Latent, ...]) -> None:
        """Make location, noise and maps of every site."""
        sizes = {latent.name: latent.free_start.numel() for latent in latents}
        self._kinds, maps = self._chosen_kinds(sizes), self._chosen_maps(sizes)
        self._maps = {name: maps.get(name, {}) for name in sizes}
        self._order = list(_upstream_first(self._maps))
        for latent in latents:
            self._declare_site(latent, sizes)

    def _chosen_kinds(self, sizes: Mapping[str, int]) -> dict[str, str | Fn]:
        if not isinstance(self.conditionals, Mapping):
            return dict.fromkeys(sizes, self.conditionals)
        _check_names("conditionals", self.conditionals, sizes)
        for name in sizes:
            if name not in self.conditionals:
                raise GuideError(
                    f"AutoStructured: expected a law for every latent site {list(sizes)}, got none for "
                    f"'{name}'; add '{name}': 'normal' to conditionals"
                )
        return dict(self.conditionals)

    def _chosen_maps(self, sizes: Mapping[str, int]) -> dict[str, dict[str, str | Fn]]:
        if isinstance(self.dependencies, Mapping):
            _check_names("dependencies", self.dependencies, sizes)
            for maps in self.dependencies.values():
                _check_names("dependencies", maps, sizes)
            return {name: dict(maps) for name, maps in self.dependencies.items()}
        args, kwargs = self._arguments
        model = substitute(self.model, substitute_fn=self._start_of)
        found = get_dependencies(model, args, kwargs)["posterior_dependencies"]
        chosen: dict[str, dict[str, str | Fn]] = {name: {} for name in sizes}
        for early in sizes:
            for late in found.get(early, ()):
                if late in sizes and late != early:
                    chosen[late][early] = self.dependencies
        return chosen

    def _start_of(self, message: Message) -> torch.Tensor | None:
        if message.type != "sample" or message.value is not None or is_enumerated(message):
            return None
        return rows_present(message, self.init_loc_fn(message).detach())

    def _declare_site(self, latent: Latent, sizes: Mapping[str, int]) -> None:
        name, start = latent.name, latent.free_start
        kind = self._kinds[name]
        self.hold(f"locs.{name}", start)
        if kind in ("normal", "mvn"):
            self.hold(f"scales.{name}", torch.full_like(start, self.init_scale), constraints.positive)
        if kind == "mvn":
            identity = torch.eye(sizes[name], dtype=start.dtype, device=start.device)
            self.hold(f"scale_trils.{name}", identity, constraints.unit_lower_cholesky)
        for upstream, each in self._maps[name].items():
            if each == "linear":
                self.hold(f"deps.{name}.{upstream}", start.new_zeros(sizes[name], sizes[upstream]))
        for each in (kind, *self._maps[name].values()):
            if isinstance(each, nn.Module) and not any(each is known for known in self.functions):
                self.functions.append(each.to(dtype=start.dtype, device=start.device))

    def declare_law(self, start: torch.Tensor) -> None:
        """Nothing: :meth:`declare` makes the parameters site by site."""

    # The law

    def get_posterior(self, *args: Any, **kwargs: Any) -> Distribution:
        """The joint law in unconstrained space, event shape (n,); sites without noise have no density."""
        return self._law()

    def draw(self, batch_shape: torch.Size) -> Distribution:
        """The law with a draw whose noise is known: nothing is inverted."""
        law = self._law()
        noise = law.noise(batch_shape)
        vector = law.moved(noise)
        return Drawn(
            vector,
            lambda: law.density(noise).expand(batch_shape),
            lambda: law.expand(batch_shape) if batch_shape else law,
            1,
            constraints.real_vector,
        )

    def _law(self) -> StructuredLaw:
        """The law of the parameters, which are shown to the handlers."""
        for key, parameter in self.functions.named_parameters():
            show_parameter(f"{self._name}.functions.{key}", parameter)
        return StructuredLaw([self._part(latent.name) for latent in self.latents], self._order)

    def _part(self, name: str) -> Part:
        kind, places = self._kinds[name], self.all_places()

        def flat(path: str) -> torch.Tensor | None:
            return self.read(path).reshape(-1) if path in places else None

        tril = self.read(f"scale_trils.{name}") if kind == "mvn" else None
        maps = {
            upstream: self.read(f"deps.{name}.{upstream}") if each == "linear" else each
            for upstream, each in self._maps[name].items()
        }
        loc, scale = self.read(f"locs.{name}").reshape(-1), flat(f"scales.{name}")
        return Part(name, loc, scale, tril, kind if callable(kind) else None, maps)

    def get_transform(self, *args: Any, **kwargs: Any) -> Transform:
        """From a standard normal vector to the posterior's, as :class:`NeuTraReparam` needs it.

        Raises:
            GuideError: a site has no noise, or a function draws it.
        """
        for name, kind in self._kinds.items():
            if kind not in ("normal", "mvn"):
                raise GuideError(
                    f"AutoStructured: expected normal noise at every site for a transform, got {kind!r} at "
                    f"site '{name}'; give it 'normal'"
                )
        return StructuredTransform(self._law())

    def draws(self, lead: torch.Size) -> JointDraws:
        """Draw the vector."""
        with ExitStack() as aside:
            if any(callable(kind) for kind in self._kinds.values()):
                aside.enter_context(block())
                if lead:
                    aside.enter_context(particle_plate(lead[0], self.rank))
            return self._with_points(super().draws(lead))

    def issue(self, lead: torch.Size) -> JointDraws:
        """Draw the vector as an auxiliary site."""
        return self._with_points(super().issue(lead))

    def _with_points(self, draws: JointDraws) -> JointDraws:
        return StructuredDraws(draws, {name for name, kind in self._kinds.items() if kind == "delta"})

    # Looking at the fit

    def loc_and_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and standard deviations of the entries; NaN where functions say how sites depend."""
        law = self._law()
        loc = torch.cat([part.loc for part in law.parts])
        if not law.is_linear:
            return loc, torch.full_like(loc, torch.nan)
        # What a unit of noise in one entry moves, one entry a row.
        unit = torch.eye(len(loc), dtype=loc.dtype, device=loc.device)
        return loc, torch.linalg.vector_norm(law.moved(law.cut(unit)) - loc, dim=0)

    def quantiles(
        self, quantiles: float | Sequence[float] | torch.Tensor, *args: Any, **kwargs: Any
    ) -> Tensors:
        """Marginal quantiles of every latent site, by name; several stand in a dimension on the left.

        Raises:
            GuideError: functions draw the noise or say how sites depend.
        """
        self.setup(*args, **kwargs)
        if not self._law().is_linear:
            raise GuideError(
                "AutoStructured: expected laws and maps by name for quantiles in closed form, got functions; "
                "use sample_posterior"
            )
        return super().quantiles(quantiles, *args, **kwargs)


def _upstream_first(maps: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Names in an order in which every site comes after those it depends on.

    Raises:
        GuideError: there is none.
    """
    done: set[str] = set()
    while len(done) < len(maps):
        ready = [name for name in maps if name not in done and done.issuperset(maps[name])]
        if not ready:
            circle = [name for name in maps if name not in done]
            raise GuideError(
                f"AutoStructured: expected sites that do not depend on themselves, got a circle among "
                f"{circle}; leave one direction out of dependencies"
            )
        done.update(ready)
        yield from ready


def _check_kinds(option: str, given: Any, known: Sequence[str]) -> None:
    each_one = given.values() if isinstance(given, Mapping) else [given]
    for each in each_one:
        is_known = each in known if isinstance(each, str) else isinstance(given, Mapping) and callable(each)
        if not is_known:
            hint = nearest(each, known) if isinstance(each, str) else ""
            raise GuideError(
                f"AutoStructured: expected {option} as one of {list(known)} or functions by site, got "
                f"{each!r}{hint or f'; write {known[-1]!r}'}"
            )


def _check_names(option: str, given: Any, sites: Mapping[str, int]) -> None:
    for name in given:
        if name not in sites:
            raise GuideError(
                f"AutoStructured: expected {option} of latent sites {list(sites)}, got '{name}'"
                f"{nearest(name, sites) or '; leave it out'}"
            )
