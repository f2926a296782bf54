"""``config_enumerate``: mark the discrete sites of a model or guide."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from brancher.errors import InferenceError, UnsupportedError
from brancher.handlers import Message, infer_config
from brancher.infer.draws import check_count


def config_enumerate(
    guide: Callable[..., Any] | None = None,
    default: str | None = "parallel",
    expand: bool = False,
    num_samples: int | None = None,
    tmc: str = "diagonal",
) -> Any:
    """Mark every latent site with a finite support for enumeration; sites that say so themselves stay.

    Args:
        guide: the model or guide; None to decorate one.
        default: "parallel" for all values at once, along a dimension; "sequential" for a run for each
            value, which allows a guide to branch on them; None to mark nothing.
        expand: whether values fill the batch dimensions of their site instead of broadcasting, for a
            function that joins them to other tensors.
        num_samples: draws of every latent site, continuous ones too, instead of all values; for
            :class:`~brancher.infer.TraceTMC_ELBO`.
        tmc: "diagonal", the way in which draws of a site follow those of earlier ones.

    Raises:
        InferenceError: ``default`` or ``num_samples`` is something else.
        UnsupportedError: ``num_samples`` is given for runs one by one, or ``tmc`` is something else.

    Example:
        >>> from brancher.infer import config_enumerate
        >>> model = config_enumerate(lambda: sample("x", dist.Bernoulli(0.3)))
        >>> handlers.trace(model).get_trace().nodes["x"]["infer"]
        {'enumerate': 'parallel'}
    """
    if default not in ("parallel", "sequential", None):
        raise InferenceError(
            f"config_enumerate: expected default as 'parallel', 'sequential' or None, got {default!r}"
        )
    if num_samples is not None:
        check_count("config_enumerate", "num_samples", num_samples)
        if default != "parallel" or tmc != "diagonal":
            raise UnsupportedError(
                "config_enumerate: expected default='parallel' and tmc='diagonal' with num_samples, got "
                f"{default!r} and {tmc!r}"
            )
    if guide is None:
        return functools.partial(
            config_enumerate, default=default, expand=expand, num_samples=num_samples, tmc=tmc
        )

    def mark(site: Message) -> dict[str, Any]:
        is_chosen = (
            site.type == "sample"
            and not site.is_observed
            and "enumerate" not in site.infer
            and (num_samples is not None or getattr(site.fn, "has_enumerate_support", False))
        )
        if not is_chosen or default is None:
            return {}
        if num_samples is not None:
            return {"enumerate": default, "num_samples": num_samples}
        return {"enumerate": default, "expand": True} if expand else {"enumerate": default}

    return infer_config(guide, config_fn=mark)
