"""Tables of expected predictive accuracy, PSIS-LOO and WAIC, for one model and for several.

Source: Vehtari, Gelman, Gabry 2017, "Practical Bayesian model evaluation using leave-one-out cross-validation
and WAIC", Statistics and Computing 27: section 2 (criteria), eq. 23-24 (standard errors).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from brancher.errors import InferenceError, InferenceTypeError
from brancher.frames import entries_frame
from brancher.infer.diagnostics import LooResult, ess_mean, loo, waic

if TYPE_CHECKING:
    import pandas as pd

Criterion = Literal["loo", "waic"]
_TRUSTED = 0.7  # the largest Pareto k of an observation that its leave-one-out estimate can be trusted for


class _Accuracy(NamedTuple):
    """Pointwise values of one model, ``(observations,)`` each."""

    elpd: Tensor
    parameters: Tensor
    pareto_k: Tensor | None

    @property
    def se(self) -> float:
        return float((len(self.elpd) * self.elpd.var(correction=0)).sqrt())

    @property
    def bad(self) -> int | None:
        return None if self.pareto_k is None else int((~(self.pareto_k <= _TRUSTED)).sum())


def accuracy_table(log_likelihood: Any, relative_ess: float | None = None) -> pd.DataFrame:
    """Expected log predictive density of new data, by leave-one-out and by WAIC.

    Args:
        log_likelihood: nats by observed site with the draws on the left, as `log_likelihood` gives them; or
            an `MCMC` that has run.
        relative_ess: effective draws per draw; None to find out where chains are kept apart.

    Returns:
        Rows ``loo`` and ``waic``: ``elpd`` in nats (higher is better), ``se``, effective parameters ``p``,
        ``deviance`` (-2 elpd), and how many observations have a Pareto k above 0.7, where leave-one-out
        can not be trusted.

    Raises:
        InferenceTypeError: no mapping of tensors.
        InferenceError: there is no dimension of observations.

    Example:
        >>> from brancher.infer import accuracy_table
        >>> float(accuracy_table({"y": torch.full((100, 3), -1.0)}).loc["loo", "elpd"])
        -3.0
    """
    import pandas as pd

    rows = {}
    for name in ("loo", "waic"):
        found = _accuracy(log_likelihood, name, relative_ess)
        elpd = float(found.elpd.sum())
        rows[name] = {"elpd": elpd, "se": found.se, "p": float(found.parameters.sum()), "deviance": -2 * elpd}
        rows[name]["bad_k"] = math.nan if found.bad is None else found.bad
    return pd.DataFrame.from_dict(rows, orient="index")


def pointwise_table(log_likelihood: Any, relative_ess: float | None = None) -> pd.DataFrame:
    """Leave-one-out for each observation, labelled by plate coordinates.

    Args:
        log_likelihood: as in :func:`accuracy_table`.
        relative_ess: as there.

    Returns:
        One row an observation: ``elpd`` in nats, effective parameters ``p`` and ``pareto_k``.
    """
    draws = _of(log_likelihood)
    columns = {}
    for name, value in draws.items():
        flat, ratio = _flat(draws, name, relative_ess)
        found = loo(flat, ratio)
        columns[name] = {"elpd": found.elpd_pointwise, "p": _parameters(flat, found)}
        columns[name]["pareto_k"] = found.pareto_k
        if value.dim() == _lead(draws) and found.elpd_pointwise.shape == (1,):
            columns[name] = {key: part[0] for key, part in columns[name].items()}
    return entries_frame(columns, getattr(draws, "dims", None), getattr(draws, "coords", None))


def compare_models(models: Mapping[str, Any], criterion: Criterion = "loo") -> pd.DataFrame:
    """Rank models of the same data by their expected predictive accuracy.

    Args:
        models: by name, log likelihoods or runs as in :func:`accuracy_table`.
        criterion: ``"loo"`` or ``"waic"``.

    Returns:
        One row a model, the best first: ``elpd``, ``se``, ``p``, ``elpd_diff`` to the best, ``dse`` (the
        standard error of that difference), pseudo-BMA ``weight``, and ``bad_k``.

    Raises:
        InferenceError: models have different numbers of observations.

    Example:
        >>> from brancher.infer import compare_models
        >>> good, bad = {"y": torch.full((100, 3), -1.0)}, {"y": torch.full((100, 3), -2.0)}
        >>> list(compare_models({"bad": bad, "good": good}).index)
        ['good', 'bad']
    """
    import pandas as pd

    if criterion not in ("loo", "waic"):
        raise InferenceError(f"compare_models: expected criterion 'loo' or 'waic', got {criterion!r}")
    found = {name: _accuracy(model, criterion, None) for name, model in models.items()}
    sizes = {name: len(one.elpd) for name, one in found.items()}
    if len(set(sizes.values())) > 1:
        raise InferenceError(
            f"compare_models: expected models of the same observations, got {sizes} of them; fit one data set"
        )
    order = sorted(found, key=lambda name: -float(found[name].elpd.sum()))
    best = found[order[0]].elpd if order else torch.empty(0)
    weights = torch.tensor([float(found[name].elpd.sum()) for name in order]).softmax(0).tolist()
    rows = {}
    for name, weight in zip(order, weights, strict=True):
        one = found[name]
        difference = best - one.elpd
        rows[name] = {
            "elpd": float(one.elpd.sum()),
            "se": one.se,
            "p": float(one.parameters.sum()),
            "elpd_diff": float(difference.sum()),
            "dse": float((len(difference) * difference.var(correction=0)).sqrt()),
            "weight": weight,
            "bad_k": math.nan if one.bad is None else one.bad,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _accuracy(log_likelihood: Any, criterion: Criterion, relative_ess: float | None) -> _Accuracy:
    draws = _of(log_likelihood)
    parts = []
    for name in draws:
        flat, ratio = _flat(draws, name, relative_ess)
        if criterion == "waic":
            deviance, parameters = waic(flat, pointwise=True)
            parts.append(_Accuracy(-deviance.flatten() / 2, parameters.flatten(), None))
        else:
            found = loo(flat, ratio)
            parameters = _parameters(flat, found).flatten()
            parts.append(_Accuracy(found.elpd_pointwise.flatten(), parameters, found.pareto_k.flatten()))
    ks = [part.pareto_k for part in parts if part.pareto_k is not None]
    return _Accuracy(
        torch.cat([part.elpd for part in parts]),
        torch.cat([part.parameters for part in parts]),
        torch.cat(ks) if ks else None,
    )


def _parameters(values: Tensor, found: LooResult) -> Tensor:
    return values.logsumexp(0) - math.log(values.shape[0]) - found.elpd_pointwise


def _of(log_likelihood: Any) -> Mapping[str, Tensor]:
    if hasattr(log_likelihood, "log_likelihood"):
        log_likelihood = log_likelihood.log_likelihood()
    if not isinstance(log_likelihood, Mapping) or not log_likelihood:
        raise InferenceTypeError(
            "model comparison: expected log likelihoods by observed site or an MCMC that has run, got "
            f"{type(log_likelihood).__name__}; give log_likelihood(model, samples, *args)"
        )
    return log_likelihood


def _lead(draws: Mapping[str, Tensor]) -> int:
    return int(getattr(draws, "batch_ndims", 1))


def _flat(draws: Mapping[str, Tensor], name: str, relative_ess: float | None) -> tuple[Tensor, float]:
    """Draws end to end, ``(draws, *observations)``, and how many of them are effective per draw."""
    value, lead = torch.as_tensor(draws[name]).detach().double(), _lead(draws)
    flat = value.flatten(0, 1) if lead == 2 else value
    if flat.dim() == 1:
        flat = flat[:, None]
    if relative_ess is None:
        relative_ess = 1.0
        if lead == 2 and value.shape[1] >= 4:
            likelihood = (value - value.amax((0, 1), keepdim=True)).exp()
            ess = ess_mean(likelihood).nan_to_num(flat.shape[0])
            relative_ess = float(ess.mean().clamp(1, flat.shape[0])) / flat.shape[0]
    return flat, relative_ess
