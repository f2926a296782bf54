"""``Predictive``: what a model says before data, or after them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from brancher.absent import refuse
from brancher.errors import (
    BrancherWarning,
    GuideError,
    InferenceError,
    InferenceTypeError,
    UnknownNameError,
    nearest,
)
from brancher.handlers import Message, Trace, mask, stack, trace
from brancher.infer.agreement import Choice, choose
from brancher.infer.checks import shapes_of
from brancher.infer.compiled_runs import CompiledRuns
from brancher.infer.draws import check_count, flat_draws, warn_unknown
from brancher.infer.pairing import paired_traces
from brancher.infer.replicate import Layout, Read, Run, lay_out, replicate, traces_in_batch
from brancher.infer.samples import Samples, labels_of
from brancher.params import undone_on_error

if not TYPE_CHECKING:
    __getattr__ = refuse(__name__)

Fn = Callable[..., Any]


class _Unasked(mask):
    """Tells models by ``get_mask`` that nobody asks for densities; data are checked all the same."""

    def __init__(self) -> None:
        super().__init__(mask=False)

    def process_message(self, message: Message) -> None:
        """Leave the site as it is."""


#: One for all calls: the handlers in force are a part of what a compiled call is known by.
_UNASKED = _Unasked()


class _Draw(NamedTuple):
    """How the draws of one call are made."""

    run: Run
    layout: Layout
    sites: list[Message]
    choice: Choice
    read: Read


class Predictive:
    """Draw from a model's prior or posterior predictive law.

    The model runs once for every draw, with the latent sites that ``posterior_samples`` or the
    guide give; the others are drawn. Observed sites stay observed: call the model without its
    data (``obs=None``) to predict them. Draws run as one batch dimension left of every plate
    where that gives what single runs give (some draws are compared both ways at first sight),
    else in the lanes of a ``vmap`` where that does, else one after the other.

    Args:
        model: the model.
        posterior_samples: values by site, shape ``(draws, *site)``.
        guide: draws the latent sites, instead of ``posterior_samples``.
        num_samples: how many draws, > 0; follows from ``posterior_samples`` where given.
        return_sites: the sites to return, ``"_RETURN"`` for the model's return value; ``()`` for
            sample and deterministic sites that are not in ``posterior_samples``, None for all.
        parallel: True for a batch unchecked, False for a loop, None to find out.
        batch_size: how many draws to run in one batch, a bound on memory; None for all.
        batch_ndims: dimensions on the left of ``posterior_samples`` that count draws: 2 where they
            are grouped by chain, 0 for a single draw.
        compile: run all draws as one compiled graph. The first call with arguments of a shape takes
            seconds; a model that can not be compiled runs eagerly, with a warning.

    Attributes:
        vectorized: whether the last call ran its draws together; None before.
        reason: why not as a batch, or None.

    Raises:
        InferenceError: the numbers of draws disagree or are not positive.

    Example:
        >>> from brancher.infer import Predictive
        >>> def model():
        ...     mu = sample("mu", dist.Normal(0.0, 1.0))
        ...     with plate("row", 3, coords=["a", "b", "c"]):
        ...         sample("y", dist.Normal(mu, 1.0))
        >>> draws = Predictive(model, num_samples=10)()
        >>> draws
        Samples(mu: (10,), y: (10, 3))
        >>> list(draws.to_frame("y"))
        ['y[a]', 'y[b]', 'y[c]']
    """

    def __init__(
        self,
        model: Fn,
        posterior_samples: Mapping[str, Any] | None = None,
        guide: Fn | None = None,
        num_samples: int | None = None,
        return_sites: Iterable[str] | None = (),
        parallel: bool | None = None,
        *,
        batch_size: int | None = None,
        batch_ndims: int | None = None,
        compile: bool = False,
    ) -> None:
        if not isinstance(compile, bool):
            raise InferenceError(f"Predictive: expected compile as True or False, got {compile!r}")
        for name, fn in (("model", model), ("guide", guide)):
            if not callable(fn) and not (name == "guide" and fn is None):
                raise InferenceTypeError(
                    f"Predictive: expected {name} as a function, got {type(fn).__name__}; "
                    "give the function itself, not its result"
                )
        if guide is not None and posterior_samples is not None and len(posterior_samples):
            raise InferenceError("Predictive: expected posterior_samples or a guide, got both; leave one out")
        check_count("Predictive", "num_samples", num_samples)
        check_count("Predictive", "batch_size", batch_size)
        samples = {} if posterior_samples is None else posterior_samples
        self.posterior_samples, self._lead = flat_draws("Predictive", samples, batch_ndims)
        self.model, self.guide = model, guide
        self.num_samples = _count(self.posterior_samples, num_samples)
        self.return_sites = _names(return_sites)
        self.parallel, self.batch_size = parallel, batch_size
        self.vectorized: bool | None = None
        self.reason: str | None = None
        self._choices: dict[Any, Choice] = {}
        self._compiled = CompiledRuns("Predictive", model, guide) if compile else None

    @stack.restored()
    @undone_on_error()
    def __call__(self, *args: Any, **kwargs: Any) -> Samples:
        """Run the model with these arguments.

        Returns:
            Tensors by site with the draws on the left, labelled by the plates' coordinates.

        Raises:
            GuideError: the guide has a site that the model lacks.
            UnknownNameError: ``return_sites`` names no site.
        """
        draw = self._prepare(args, kwargs)
        way = draw.choice.way
        if self._compiled is not None:
            names = tuple(site.name for site in draw.sites)
            way = self._compiled.way(draw.choice, self._run, args, kwargs, names)
        with _UNASKED:
            values = replicate(way, draw.run, draw.read, draw.layout, self.num_samples, self.batch_size)
        shown = [site for site in draw.sites if site.name != "_RETURN"]
        dims, coords = labels_of(shown, draw.layout.traces[0])
        shaped = {name: value.reshape(self._lead_shape() + value.shape[1:]) for name, value in values.items()}
        return Samples(shaped, dims, coords, batch_ndims=len(self._lead_shape()))

    def get_samples(self, *args: Any, **kwargs: Any) -> Samples:
        """Pyro's name for calling it."""
        return self(*args, **kwargs)

    @stack.restored()
    @undone_on_error()
    def get_vectorized_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Run the model once for all draws, and return its trace.

        Values and log-densities have the draws in one dimension left of every plate; sites outside of
        plates have dimensions of size 1 between.

        Raises:
            InferenceError: the draws can not run as one batch.

        Example:
            >>> from brancher.infer import Predictive
            >>> def model():
            ...     mu = sample("mu", dist.Normal(0.0, 1.0))
            ...     with plate("row", 3):
            ...         sample("y", dist.Normal(mu, 1.0))
            >>> record = Predictive(model, num_samples=10).get_vectorized_trace()
            >>> record.nodes["mu"]["value"].shape, record.nodes["y"]["value"].shape
            (torch.Size([10, 1]), torch.Size([10, 3]))
        """
        draw = self._prepare(args, kwargs)
        if draw.choice.name != "batch" and self.num_samples > 1 and self.parallel is None:
            raise InferenceError(
                "Predictive.get_vectorized_trace: expected draws that run as one batch, got a model whose "
                f"draws can not: {self.reason}; write it for batch dimensions on the left"
            )
        with torch.no_grad():
            return traces_in_batch(draw.run, draw.layout, draw.layout.given, self.num_samples)[0]

    def as_function(self, args: tuple[Any, ...]) -> Fn:
        """Return the draws as a function of the model's arguments, for :func:`~brancher.infer.export`.

        Raises:
            InferenceError: the draws can not run together.
        """
        draw = self._prepare(args, {})
        if not draw.choice.vectorized:
            raise InferenceError(
                f"export: expected draws that run together, got a model whose draws can not: {self.reason}; "
                "write it for batch dimensions on the left"
            )

        def draws(*now: Any) -> dict[str, torch.Tensor]:
            way, layout = draw.choice.way, draw.layout
            return replicate(way, self._run(now, {}), draw.read, layout, self.num_samples, self.batch_size)

        return draws

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Draw:
        run = self._run(args, kwargs)
        with _UNASKED:
            layout = lay_out(run, self.posterior_samples)
        self._check_names(layout)
        sites = self._chosen(layout.traces[0])
        choice = self._choose(run, layout, args, kwargs)
        self.vectorized, self.reason = choice.vectorized, choice.reason

        def read(traces: Sequence[Trace]) -> dict[str, torch.Tensor]:
            return {site.name: _value_of(traces[0], site.name) for site in sites}

        return _Draw(run, layout, sites, choice, read)

    @property
    def compile_counters(self) -> Any:
        """How often a graph was traced, compiled, loaded from disk and given up; None without ``compile``."""
        return None if self._compiled is None else self._compiled.counters

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        if self.guide is None:
            return lambda: (trace(self.model).get_trace(*args, **kwargs),)
        guide = self.guide
        return lambda: paired_traces(self.model, guide, args, kwargs)

    def _lead_shape(self) -> torch.Size:
        return self._lead if self._lead is not None else torch.Size([self.num_samples])

    def _choose(self, run: Run, layout: Layout, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Choice:
        key = (shapes_of(args), shapes_of(kwargs), layout.nesting)
        if key not in self._choices:
            self._choices[key] = choose(run, layout, self.num_samples, self.parallel)
        return self._choices[key]

    def _check_names(self, layout: Layout) -> None:
        record = layout.traces[0]
        if self.guide is not None:
            drawn = [s.name for s in layout.traces[1].sites("sample") if not s.infer.get("is_auxiliary")]
            for name in drawn:
                if name not in record:
                    raise GuideError(
                        f"guide: expected sites of the model {record.stochastic_nodes}, got '{name}'"
                        f"{nearest(name, record.names()) or '; rename it'} or mark it with "
                        "infer={'is_auxiliary': True}"
                    )
        warn_unknown("Predictive", self.posterior_samples, record)

    def _chosen(self, record: Trace) -> list[Message]:
        sites = {site.name: site for site in record.sites("sample", "deterministic", "param")}
        if self.return_sites:
            sites["_RETURN"] = record.nodes["_RETURN"]
            for name in self.return_sites:
                if name not in sites:
                    raise UnknownNameError(
                        f"return_sites: expected some of {list(sites)}, got '{name}'"
                        f"{nearest(name, sites) or '; check the spelling'}"
                    )
            return [site for name, site in sites.items() if name in self.return_sites]
        everything = self.return_sites is None or self.guide is not None
        known: Iterable[str] = () if everything else self.posterior_samples
        shown = [site for site in sites.values() if site.type != "param"]
        return [site for site in shown if site.type == "deterministic" or site.name not in known]


def _value_of(record: Trace, name: str) -> torch.Tensor:
    site = record.nodes.get(name)
    if site is None:
        raise InferenceError(
            f"site '{name}': expected it in every run of the model, got a run without it; leave it out of "
            "return_sites"
        )
    if not isinstance(site.value, torch.Tensor):
        raise InferenceTypeError(
            f"site '{name}': expected a tensor, got {type(site.value).__name__}; return a tensor from the "
            "model"
        )
    return site.value


def _names(return_sites: Any) -> tuple[str, ...] | None:
    if return_sites is None:
        return None
    if isinstance(return_sites, str):
        return (return_sites,)
    if not isinstance(return_sites, Iterable):
        raise InferenceTypeError(
            f"Predictive: expected return_sites as a list of names, got {type(return_sites).__name__}; write "
            "return_sites=['x']"
        )
    names = tuple(return_sites)
    for name in names:
        if not isinstance(name, str):
            raise InferenceTypeError(
                f"Predictive: expected return_sites as a list of names, got {name!r} of type "
                f"{type(name).__name__} in it; write return_sites=['x']"
            )
    return names


def _count(given: Mapping[str, torch.Tensor], num_samples: int | None) -> int:
    if not given:
        if num_samples is None:
            raise InferenceError(
                "Predictive: expected posterior_samples or num_samples, got neither; give num_samples=1000"
            )
        return num_samples
    count = next(iter(given.values())).shape[0]
    if num_samples is not None and num_samples != count:
        warnings.warn(
            f"Predictive: expected num_samples={count}, as many as posterior_samples has, got "
            f"{num_samples}; all "
            f"{count} are used",
            BrancherWarning,
            stacklevel=3,
        )
    return count
