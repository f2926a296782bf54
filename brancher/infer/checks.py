"""The one validator of every algorithm: what model and guide must look like, at first sight."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from brancher.distributions.validation import is_validating
from brancher.errors import BrancherError, BrancherWarning, GuideError, InferenceError, SiteError, nearest
from brancher.handlers import Frame, Message, Trace
from brancher.handlers.density import score
from brancher.infer.culprit import cause_of, inside
from brancher.staging import random_state_kept

Fn = Callable[..., Any]


class FirstSight:
    """Remembers which (model, guide, argument shapes) have been checked."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, Any]] = {}

    def is_new(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this combination has not passed yet."""
        return (id(model), id(guide), shapes_of(args), shapes_of(kwargs)) not in self._known

    def seen(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note that the combination has passed."""
        # Kept alive with the key: an id is only unique while its object lives.
        self._known[(id(model), id(guide), shapes_of(args), shapes_of(kwargs))] = (model, guide)

    def __getstate__(self) -> dict[str, Any]:
        return {"_known": {}}  # ids mean nothing in another process


def shapes_of(value: Any) -> Any:
    """A hashable account of the structure, shapes and dtypes of arguments."""
    kind = type(value)
    if kind is torch.Tensor or isinstance(value, (torch.Tensor, np.ndarray)):
        return (tuple(value.shape), value.dtype)
    if kind is tuple or isinstance(value, (list, tuple)):
        return tuple([shapes_of(item) for item in value])
    if kind is dict or isinstance(value, Mapping):
        return tuple([(key, shapes_of(item)) for key, item in value.items()])
    return kind


def explain(error: Exception, run: Callable[[], Iterable[Trace]]) -> None:
    """Say what failed in a run that had checks switched off in the words of the checks, if they can tell.

    Args:
        error: what the run raised.
        run: runs it again; its traces are scored.

    Raises:
        BrancherError: a check finds the cause.
    """
    if not is_validating():
        return
    with random_state_kept(), torch.no_grad():
        try:
            for record in run():
                record.compute_log_prob()
        except BrancherError as explanation:
            raise explanation from error
        except Exception:  # no better than the first one
            pass


def names_differ(model_trace: Trace, guide_trace: Trace) -> bool:
    """Whether guide and model may speak of different latent sites: a quick look, for every step."""
    modelled, guided = model_trace.nodes, guide_trace.nodes
    for name, site in modelled.items():
        if site.type == "sample" and name not in guided and not site.is_observed and not site.enumerated:
            return True
    return any(
        site.type == "sample" and name not in modelled and not site.infer.get("is_auxiliary")
        for name, site in guided.items()
    )


def check_pair(model_trace: Trace, guide_trace: Trace) -> None:
    """Check that guide and model speak of the same latent sites.

    Raises:
        GuideError: a latent site is missing or extra, or has another event rank.
    """
    model_sites = {s.name: s for s in model_trace.sites("sample") if not s.is_observed}
    guide_sites = {
        s.name: s
        for s in guide_trace.sites("sample")
        if not s.is_observed and not s.infer.get("is_auxiliary") and s.name not in model_trace.plates()
    }
    summed_out = {n for n, s in model_sites.items() if s.enumerated and n in s.enumerated.values()}
    missing = [n for n in model_sites if n not in guide_trace and n not in summed_out]
    extra = [name for name in guide_sites if name not in model_sites]
    wanted = [name for name in model_sites if name not in summed_out]
    if missing or extra:
        raise GuideError(_mismatch(model_trace, wanted, list(guide_sites), missing, extra))
    for name, site in guide_sites.items():
        got, expected = len(site.fn.event_shape), len(model_sites[name].fn.event_shape)
        if got != expected:
            raise GuideError(
                f"guide: expected {expected} event dimensions at site '{name}' as in the model, got {got}; "
                f"use to_event({expected}) or the right family in the guide"
            )
        _check_shapes(model_sites[name], site)
        _check_plates(model_sites[name], site)
    for site in guide_trace.sites("factor"):
        if site.infer.get("has_rsample") is None:
            raise GuideError(
                f"guide: expected factor '{site.name}' to state has_rsample, got None; write "
                f"factor('{site.name}', value, has_rsample=True) if it depends on draws pathwise, else False"
            )


def _check_shapes(model_site: Message, guide_site: Message) -> None:
    pair = (model_site, guide_site)
    for part, shapes in {
        "batch": [_without_ones(_own_shape(site)) for site in pair],
        "event": [tuple(site.fn.event_shape) for site in pair],
    }.items():
        expected, got = shapes
        if got != expected:
            raise GuideError(
                f"guide: expected {part} shape {expected} at site '{model_site.name}' as in the model, got "
                f"{got}; give the site the same plates and sizes in both"
            )


def _check_plates(model_site: Message, guide_site: Message) -> None:
    """Refuse a subsample that the model does not see, and tell of a plate under another name."""
    expected, got = ([f for f in site.frames if not is_own(f)] for site in (model_site, guide_site))
    names = {frame.name for frame in expected}
    for frame in got:
        if frame.name in names:
            continue
        text = (
            f"guide: expected site '{model_site.name}' in the plates {sorted(names)} as in the model, got "
            f"'{frame.name}'{nearest(frame.name, names)}; give the plates the same names in both"
        )
        if frame.size != frame.full_size:
            raise GuideError(f"{text}, so that both take the same rows")
        warnings.warn(text, BrancherWarning, stacklevel=2)


def _own_shape(site: Message) -> tuple[int, ...]:
    frames = {frame.dim: frame for frame in site.frames if frame.dim is not None}
    batch, enumerated = tuple(site.fn.batch_shape), site.enumerated or ()
    own = tuple(1 if dim in enumerated else batch[dim] for dim in range(-len(batch), 0))
    return tuple(_shown(own, frames))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    first = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


def _mismatch(model: Trace, wanted: list[str], got: list[str], missing: list[str], extra: list[str]) -> str:
    text = f"guide: expected latent sites {sorted(wanted)}, got {sorted(got)}; "
    if extra:
        hints = "".join(nearest(name, wanted) for name in extra)
        observed = [name for name in extra if name in model.observation_nodes]
        why = f"; {observed} is observed in the model" if observed else ""
        text += (
            f"remove or rename {extra} in the guide{hints}{why}, or mark it with "
            "infer={'is_auxiliary': True}"
        )
    if missing:
        forgotten = [n for n in missing if model.nodes[n].infer.get("obs_is_none")]
        text += " and " if extra else ""
        text += f"add {missing} to the guide"
        finite = [n for n in missing if getattr(model.nodes[n].fn, "has_enumerate_support", False)]
        if finite:
            text += f", or sum {finite} out: TraceEnum_ELBO with config_enumerate(model)"
        if forgotten:
            text += (
                f"; {forgotten} was declared with obs=None: were its data forgotten (declared without obs)?"
            )
    return text


def check_model_trace(record: Trace, role: str, allow_outside: bool = False) -> None:
    """Check the sites of one trace: the batch dimensions of their densities, and what the scoring checks.

    Args:
        record: a trace whose log-probabilities can be computed.
        role: "model" or "guide", for the message.
        allow_outside: only warn of batch dimensions outside every plate; their entries are independent.

    Raises:
        SiteError: naming the site, the shapes and the fix.
    """
    outside = [site.name for site in record.scored() if not _check_batch(site, role, allow_outside)]
    if outside:
        warnings.warn(
            f"{role}: expected batch dimensions inside plates, got some outside at {outside}, taken for "
            "independent entries; open a plate, or use to_event",
            BrancherWarning,
            stacklevel=2,
        )


def _check_batch(site: Message, role: str, allow_outside: bool) -> bool:
    """Whether all batch dimensions of a site are those of plates."""
    actual = tuple(score(site).shape)
    declared = {frame.dim: frame for frame in site.frames if frame.dim is not None}
    is_inside = True
    for dim in range(-len(actual), 0):
        if actual[dim] != 1 and dim not in declared and dim not in (site.enumerated or ()):
            is_inside = False
            if allow_outside:
                continue
            expected, plates = _expected(actual, declared), [f.name for f in site.frames if not is_own(f)]
            raise SiteError(
                f"{role} site '{site.name}': expected a log_prob of shape {expected} (its "
                f"plates: {plates}), got {_shown(actual, declared)} with size {actual[dim]} at dim {dim} "
                f"outside any plate; add .to_event({-dim}) if the entries belong together, or open "
                f"plate('...', {actual[dim]}, dim={dim}) if they are independent"
            )
        if dim in declared and actual[dim] not in (1, declared[dim].size):
            raise SiteError(
                f"{role} site '{site.name}': expected size {declared[dim].size} at dim {dim} for plate "
                f"'{declared[dim].name}', got a log_prob of shape {_shown(actual, declared)}; reshape the "
                "value or the distribution"
            )
    return is_inside


def is_own(frame: Frame) -> bool:
    """Whether a frame is the library's own, such as that of particles, and none of the user's plates."""
    return frame.name.startswith("_")


def _shown(actual: tuple[int, ...], declared: Mapping[int, Frame]) -> list[int]:
    """A shape without the dimensions that the library added."""
    dims = range(-len(actual), 0)
    return [actual[d] for d in dims if d not in declared or not is_own(declared[d])]


def _expected(actual: tuple[int, ...], declared: Mapping[int, Frame]) -> list[int]:
    sizes = tuple(declared[d].size if d in declared else 1 for d in range(-len(actual), 0))
    expected = _shown(sizes, declared)
    mine = sum(not is_own(frame) for frame in declared.values())
    while expected and expected[0] == 1 and len(expected) > mine:
        expected.pop(0)
    return expected


def first_bad_site(sites: list[Message]) -> str:
    """Describe the first site whose value or density is NaN or infinite."""
    for site in sites:
        value = site.value
        is_drawn = isinstance(value, torch.Tensor) and value.is_floating_point() and site.type != "factor"
        if is_drawn and not _finite(value):
            bad = _count(value)
            return f"first bad site '{site.name}': its value has {bad} entries that are NaN or infinite"
    for site in sites:
        if site.log_prob is not None and not _finite(site.log_prob):
            return (
                f"first bad site '{site.name}': its log_prob has {_count(site.log_prob)} entries that are "
                f"NaN or infinite, with {_arguments(site.fn)}{cause_of(site)}"
            )
    return "no site's value or log_prob is bad by itself"


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _count(tensor: torch.Tensor) -> int:
    return int((~torch.isfinite(tensor)).sum())


def _arguments(fn: Any) -> str:
    fn = inside(fn)
    shown = []
    for name in getattr(fn, "arg_constraints", {}):
        value = fn.__dict__.get(name)
        if isinstance(value, torch.Tensor) and value.numel():
            span = value.detach().double()
            shown.append(f"{name} in [{float(span.min()):.4g}, {float(span.max()):.4g}]")
    return f"{type(fn).__name__}({', '.join(shown)})"


def warn_forgotten_data(record: Trace, algorithm: str) -> None:
    """Warn about latent sites that were declared with ``obs=None``: their data may be missing."""
    for site in record.sites("sample"):
        if not site.is_observed and site.infer.get("obs_is_none"):
            warnings.warn(
                f"{algorithm}: expected data for site '{site.name}', got obs=None: it is declared without "
                "obs and inferred as a latent; pass its data, or drop obs to make it latent on purpose",
                BrancherWarning,
                stacklevel=3,
            )


def require_latents(record: Trace, algorithm: str) -> None:
    """Refuse a model in which nothing is latent.

    Raises:
        InferenceError: naming the observed sites.
    """
    if not record.stochastic_nodes:
        raise InferenceError(
            f"{algorithm}: expected a model with latent sites, got no latent sites (observed: "
            f"{record.observation_nodes}); sample at least one site without obs"
        )
