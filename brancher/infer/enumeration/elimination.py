"""Sum-product over discrete variables that stand in plates.

Obermeyer et al. 2019, "Tensor Variable Elimination for Plated Factor Graphs", arXiv:1902.03210,
algorithm 1: from the innermost plates outwards, variables are summed out row by row, and what is left
is multiplied over the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch

from brancher.errors import InferenceError
from brancher.handlers import Frame
from brancher.handlers.density import is_one
from brancher.infer.enumeration.factors import Factor, Reduce, contract, log_sum_exp

Plates: TypeAlias = frozenset[Frame]


class Term(NamedTuple):
    """A log-factor and where it stands.

    Attributes:
        factor: the log-factor, neither scaled for subsampled plates nor by handlers.
        plates: what it stands under, iterated plates included.
        scale: factor of the handlers on it, such as that of ``handlers.scale``.
    """

    factor: Factor
    plates: Plates
    scale: Any = 1.0

    def scaled(self) -> Factor:
        """The factor times all its scales."""
        scale = self.scale
        for plate in self.plates:
            scale = scale if plate.size == plate.full_size else scale * (plate.full_size / plate.size)
        if is_one(scale):
            return self.factor
        return Factor(self.factor.tensor * scale, self.factor.labels)


def sum_out(
    terms: Sequence[Term],
    homes: Mapping[str, Plates],
    variables: frozenset[str],
    reduce: Reduce = log_sum_exp,
    note: Callable[[str, Factor], None] | None = None,
) -> list[Term]:
    """Sum the product of terms over variables.

    Args:
        terms: the log-factors.
        homes: the plates that each variable stands under.
        variables: which of them to sum over.
        reduce: the sum; or a maximum.
        note: see :func:`~brancher.infer.enumeration.factors.contract`.

    Returns:
        Terms without these variables, whose sum is the result.

    Raises:
        InferenceError: plates and dependencies cross, so that the sum has a term for every combination
            of rows; or handlers scale terms that belong together by different factors.
    """
    done = [term for term in terms if not term.factor.variables & variables]
    pending = [term for term in terms if term.factor.variables & variables]
    while pending:
        leaf = max((term.plates for term in pending), key=len)
        here = [term for term in pending if term.plates == leaf]
        pending = [term for term in pending if term.plates != leaf]
        local = {v for term in here for v in term.factor.variables & variables if homes[v] == leaf}
        for group in _groups(here, local):
            inside = sorted({v for term in group for v in term.factor.variables & local})
            left = contract([term.factor for term in group], inside, reduce, note)
            merged = Term(left, leaf, _shared_scale(group, inside))
            if left.variables & variables:
                pending.append(_outwards(merged, homes, variables))
            else:
                done.append(merged)
    return done


def _groups(terms: Sequence[Term], local: set[str]) -> Iterator[list[Term]]:
    """Terms that share local variables, directly or through others."""
    left = list(terms)
    while left:
        group, reached = [left.pop()], 0
        while reached < len(group):
            linked = group[reached].factor.variables & local
            reached += 1
            group += [term for term in left if term.factor.variables & linked]
            left = [term for term in left if not term.factor.variables & linked]
        yield group


def _outwards(term: Term, homes: Mapping[str, Plates], variables: frozenset[str]) -> Term:
    """Multiply a term over the plates that its remaining variables do not stand under."""
    remaining = sorted(term.factor.variables & variables)
    target = frozenset().union(*(homes[v] for v in remaining))
    away = term.plates - target
    batch = sorted(v for v in term.factor.variables - variables if not homes[v] <= target)
    if not away or batch:
        crossing = remaining + batch
        plates = sorted({frame.name for v in crossing for frame in homes[v]})
        shared = sorted(frame.name for frame in term.plates)
        raise InferenceError(
            f"enumeration: expected dependencies that follow the plates, got variables {crossing} in "
            f"plates {plates} that meet in one density under {shared}, so that every combination of "
            "rows would have to be summed; put the sites into the same plates, or iterate over one of them"
        )
    factor = term.factor.summed(away)
    for plate in away:
        if plate.size != plate.full_size:
            factor = Factor(factor.tensor * (plate.full_size / plate.size), factor.labels)
    return Term(factor, target, term.scale)


def _shared_scale(group: Sequence[Term], summed: Sequence[str]) -> Any:
    first = group[0].scale
    for term in group[1:]:
        if not _same(first, term.scale):
            raise InferenceError(
                f"enumeration: expected one scale for all sites that {list(summed)} are summed over with, "
                f"got {first} and {term.scale}; scale the whole model"
            )
    return first


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a is b or torch.equal(a, b)
    return not isinstance(a, torch.Tensor) and not isinstance(b, torch.Tensor) and abs(a - b) <= 1e-9 * abs(a)
