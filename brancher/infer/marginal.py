"""``EmpiricalMarginal``: the draws of some sites as one distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from brancher.distributions import Empirical
from brancher.errors import InferenceError, InferenceTypeError
from brancher.frames import pick
from brancher.infer.importance import Importance

if TYPE_CHECKING:
    from brancher.infer.mcmc import MCMC


class EmpiricalMarginal(Empirical):
    """The law that puts its mass on the draws of an inference run, by their weights.

    Args:
        run: an :class:`Importance` or an ``MCMC`` that has run, or anything with ``exec_traces`` and
            ``log_weights``.
        sites: the name of a site; or names of sites of equal shape, which are stacked in a dimension
            on the left of theirs. None is what the model returned, where the run knows it.
        validate_args: as for every distribution.

    Raises:
        InferenceTypeError: ``run`` is of another kind, or no site is named and the model returned no tensor.
        InferenceError: the sites differ in shape.
        UnknownNameError: there is no such site.

    Example:
        >>> from brancher.infer import EmpiricalMarginal, Importance
        >>> model = lambda: sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        >>> marginal = EmpiricalMarginal(Importance(model, num_samples=100).run(), sites="x")
        >>> marginal.sample((5,)).shape, marginal.mean.shape
        (torch.Size([5, 2]), torch.Size([2]))
    """

    def __init__(
        self,
        run: Importance | MCMC,
        sites: str | Sequence[str] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        samples, log_weights = _draws(run, sites)
        if "_RETURN" in samples and sites in (None, "_RETURN"):
            values = samples["_RETURN"]
        elif isinstance(run, Importance) and sites in (None, "_RETURN") and run.returned is not None:
            values = run.returned
        elif sites is None:
            raise InferenceTypeError(
                f"EmpiricalMarginal: expected sites as one or several of {list(samples)}, got None; name the "
                "site, and wrap a return value in deterministic('name', value)"
            )
        elif isinstance(sites, str):
            values = pick(samples, sites)[sites]
        else:
            values = _stacked(pick(samples, list(sites)))
        super().__init__(values, log_weights, validate_args)

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """The draws, shape (N,) + E."""
        return self._samples

    def _get_samples_and_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        # Programs written for Pyro take the draws from here.
        return self._samples, self._log_weights


def _draws(
    run: object, sites: str | Sequence[str] | None
) -> tuple[Mapping[str, torch.Tensor], torch.Tensor | None]:
    if isinstance(run, Importance):
        return run.samples, run.log_weights
    if hasattr(run, "exec_traces"):
        return _of_traces(run, sites)
    get_samples = getattr(run, "get_samples", None)
    if get_samples is None:
        raise InferenceTypeError(
            f"EmpiricalMarginal: expected an Importance or MCMC that has run, got {type(run).__name__}; "
            "write EmpiricalMarginal(Importance(model, guide).run(data), sites='x')"
        )
    return get_samples(), None


def _of_traces(run: Any, sites: str | Sequence[str] | None) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The values of sites in weighted traces.

    Raises:
        InferenceError: there is no trace.
        UnknownNameError: a site is in none of them.
    """
    if not run.exec_traces:
        raise InferenceError(
            f"EmpiricalMarginal: expected {type(run).__name__} with traces, got none; call its run first"
        )
    names = ["_RETURN"] if sites is None else [sites] if isinstance(sites, str) else list(sites)
    values = {name: [record[name].value for record in run.exec_traces] for name in names}
    log_weights = torch.stack([torch.as_tensor(weight, dtype=torch.float) for weight in run.log_weights])
    stacked = {name: torch.stack([torch.as_tensor(v) for v in each]) for name, each in values.items()}
    return stacked, log_weights.detach()


def _stacked(values: dict[str, torch.Tensor]) -> torch.Tensor:
    shapes = {name: tuple(value.shape[1:]) for name, value in values.items()}
    if len(set(shapes.values())) != 1:
        raise InferenceError(
            f"EmpiricalMarginal: expected sites of equal shape, got {shapes}; make one marginal for each"
        )
    return torch.stack(list(values.values()), dim=1)
