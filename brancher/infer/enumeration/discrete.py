"""``infer_discrete``: values of discrete sites from their exact posterior."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from brancher.errors import InferenceError
from brancher.handlers import Frame, Message, Trace, enum, replay, stack, trace
from brancher.handlers.messenger import Messenger
from brancher.handlers.plate import open_frames
from brancher.infer.enumeration.elimination import sum_out
from brancher.infer.enumeration.factors import Factor, largest, log_sum_exp
from brancher.infer.enumeration.sites import homes_of, is_enumerated, terms_of
from brancher.infer.observer import Observer
from brancher.infer.replicate import lay_out


def infer_discrete(
    fn: Callable[..., Any] | None = None,
    first_available_dim: int | None = None,
    temperature: int = 1,
    *,
    strict_enumeration_warning: bool = True,
) -> Any:
    """Run a model with its enumerated sites at values from their joint posterior, given everything else.

    Exact: sums over all values forwards, then draws (or takes the best) backwards. Sites are chosen by
    ``infer={"enumerate": "parallel"}``, see :func:`config_enumerate`.

    Args:
        fn: a model whose other latent sites are fixed, by ``handlers.replay`` or ``condition``; None to
            decorate one.
        first_available_dim: rightmost batch dimension to use, left of all plates; found by a run of the
            model for None.
        temperature: 1 to draw from the posterior, 0 for the most probable joint assignment.
        strict_enumeration_warning: accepted for programs written for Pyro.

    Raises:
        InferenceError: the temperature is neither 0 nor 1.

    Example:
        >>> from brancher.infer import config_enumerate, infer_discrete
        >>> @config_enumerate
        ... def model():
        ...     z = sample("z", dist.Categorical(torch.tensor([0.5, 0.5])))
        ...     sample("x", dist.Normal(10.0 * z, 1.0), obs=torch.tensor(9.0))
        ...     return z
        >>> infer_discrete(model, first_available_dim=-1, temperature=0)()
        tensor(1)
    """
    if temperature not in (0, 1):
        raise InferenceError(f"infer_discrete: expected temperature 0 or 1, got {temperature!r}")
    if fn is None:
        return functools.partial(
            infer_discrete, first_available_dim=first_available_dim, temperature=temperature
        )
    model = fn

    @functools.wraps(model)
    def run(*args: Any, **kwargs: Any) -> Any:
        dim = first_available_dim
        # What gives values and batch dimensions from outside counts here too; what records sees the last run.
        with torch.no_grad(), stack.without(_records):
            if dim is None:
                dim = -1 - lay_out(lambda: (trace(model).get_trace(*args, **kwargs),), {}).nesting
            dim = min([dim, *(frame.dim - 1 for frame in open_frames() if frame.dim is not None)])
            summed = enum(model, first_available_dim=dim, also_sequential=True)
            chosen = _choose(trace(summed).get_trace(*args, **kwargs), temperature)
        return replay(model, trace=chosen)(*args, **kwargs)

    return run


def _records(handler: Messenger) -> bool:
    return isinstance(handler, (trace, Observer))


def _choose(record: Trace, temperature: int) -> Trace:
    """A trace with single values of the enumerated sites."""
    homes, passed = homes_of(record), list[tuple[str, Factor]]()
    sum_out(
        list(terms_of(record.scored()).values()),
        homes,
        frozenset(homes),
        log_sum_exp if temperature else largest,
        lambda variable, joint: passed.append((variable, joint)),
    )
    picks: dict[str, Factor] = {}
    for variable, joint in reversed(passed):
        picks[variable] = _pick(variable, joint, picks, temperature)
    chosen = Trace()
    for site in record.sites("sample", "plate"):
        if site.type == "sample" and is_enumerated(site):
            site = site.copy()
            site.value = _value(site, picks[site.name])
        elif site.type == "sample" and (site.is_observed or _varies(site)):
            continue
        chosen.add_node(site.name, site)
    return chosen


def _pick(variable: str, joint: Factor, picks: dict[str, Factor], temperature: int) -> Factor:
    """Choose a variable's index in every row, given the variables chosen before."""
    plates = tuple(label for label in joint.labels if isinstance(label, Frame))
    others = tuple(sorted(joint.variables - {variable}))
    table = joint.aligned((*others, *plates, variable))
    sizes = table.shape[len(others) : -1]
    index: list[torch.Tensor] = [picks[other].aligned(plates) for other in others]
    for i, size in enumerate(sizes):
        index.append(torch.arange(size, device=table.device).reshape([-1] + [1] * (len(sizes) - 1 - i)))
    logits = table[tuple(index)] if index else table
    if temperature == 0:
        return Factor(logits.argmax(-1), plates)
    return Factor(torch.distributions.Categorical(logits=logits, validate_args=False).sample(), plates)


def _value(site: Message, pick: Factor) -> torch.Tensor:
    """The value of a site in every row, from its index in the support."""
    event = site.fn.event_shape
    support = site.fn.enumerate_support(expand=False).reshape((-1, *event))
    plates = {frame.dim: frame for frame in site.frames if frame.dim is not None}
    rank = max([0, *(-dim for dim in plates)])
    index = pick.aligned([plates.get(dim, Frame("_none", dim, 1, 1)) for dim in range(-rank, 0)])
    picked: torch.Tensor = support[index]
    return picked


def _varies(site: Message) -> bool:
    """Whether a draw depends on enumerated sites, so that it has to be drawn anew."""
    batch = site.value.dim() - len(site.fn.event_shape)
    return any(
        batch >= -dim and site.value.shape[dim - len(site.fn.event_shape)] > 1
        for dim in site.enumerated or ()
    )
