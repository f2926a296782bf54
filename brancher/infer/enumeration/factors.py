"""Log-factors with named dimensions, and the sum of their product over some of the names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch

from brancher.handlers import Frame

#: The name of a discrete variable, or a plate.
Label: TypeAlias = str | Frame
#: How one dimension of a log-tensor goes away: a sum for marginals, a maximum for the best assignment.
Reduce: TypeAlias = Callable[[torch.Tensor, int], torch.Tensor]


class Factor(NamedTuple):
    """A log-factor, or any tensor, whose dimensions have names.

    Attributes:
        tensor: the entries.
        labels: the name of each dimension.
    """

    tensor: torch.Tensor
    labels: tuple[Label, ...]

    @property
    def variables(self) -> set[str]:
        """The discrete variables among the names."""
        return {label for label in self.labels if isinstance(label, str)}

    def aligned(self, labels: Sequence[Label]) -> torch.Tensor:
        """The tensor with dimensions in the order of ``labels``, of size 1 where it has none."""
        own = [label for label in labels if label in self.labels]
        ordered = self.tensor.permute([self.labels.index(label) for label in own])
        sizes = iter(ordered.shape)
        return ordered.reshape([next(sizes) if label in self.labels else 1 for label in labels])

    def summed(self, labels: Iterable[Label]) -> Factor:
        """The plain sum over some dimensions."""
        gone = set(labels).intersection(self.labels)
        if not gone:
            return self
        kept = tuple(label for label in self.labels if label not in gone)
        return Factor(self.tensor.sum([self.labels.index(label) for label in gone]), kept)


def log_sum_exp(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """Logarithm of the sum of exponentials; -inf with zero gradients where all entries are -inf."""
    top = tensor.detach().amax(dim, keepdim=True)
    top = torch.where(torch.isinf(top), torch.zeros_like(top), top)
    total = (tensor - top).exp().sum(dim)
    is_empty = total == 0
    return torch.where(is_empty, -torch.inf, torch.where(is_empty, 1.0, total).log() + top.squeeze(dim))


def largest(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """The largest entry along a dimension."""
    return tensor.amax(dim)


def joined(factors: Sequence[Factor]) -> Factor:
    """The product of factors, as the sum of their logarithms."""
    if not factors:
        return Factor(torch.zeros(()), ())
    labels: dict[Label, None] = {}
    for factor in factors:
        labels.update(dict.fromkeys(factor.labels))
    names = tuple(labels)
    total = factors[0].aligned(names)
    for factor in factors[1:]:
        total = total + factor.aligned(names)
    return Factor(total, names)


def contract(
    factors: Sequence[Factor],
    variables: Iterable[str],
    reduce: Reduce = log_sum_exp,
    note: Callable[[str, Factor], None] | None = None,
) -> Factor:
    """Sum the product of factors over some variables, one after the other.

    The next variable is one whose going makes no factor larger than there already is, else the one
    that makes the smallest; along a chain that is the forward recursion. All else is a batch dimension.

    Args:
        factors: the factors.
        variables: what to sum over.
        reduce: the sum; or a maximum.
        note: told each variable with the product of all factors that had it, before the sum.
    """
    present = dict(enumerate(factors))
    holders: dict[str, set[int]] = {variable: set() for variable in variables}
    for number, factor in present.items():
        for label in factor.variables & holders.keys():
            holders[label].add(number)
    while holders:
        variable = _next(holders, present)
        gone = sorted(holders.pop(variable))
        joint = joined([present.pop(number) for number in gone])
        if note is not None:
            note(variable, joint)
        number = max([-1, *present, *gone]) + 1
        if variable in joint.labels:
            at = joint.labels.index(variable)
            joint = Factor(reduce(joint.tensor, at), joint.labels[:at] + joint.labels[at + 1 :])
        present[number] = joint
        for other in joint.variables & holders.keys():
            holders[other] = (holders[other] - set(gone)) | {number}
    return joined(list(present.values()))


def _next(holders: dict[str, set[int]], present: dict[int, Factor]) -> str:
    best, cost = "", float("inf")
    for variable, numbers in holders.items():
        sizes: dict[Label, int] = {}
        before = 0
        for number in numbers:
            tensor, labels = present[number]
            sizes.update(zip(labels, tensor.shape, strict=True))
            before = max(before, tensor.numel())
        sizes.pop(variable, None)
        after = 1
        for size in sizes.values():
            after *= size
        if after <= before:
            return variable
        if after < cost:
            best, cost = variable, after
    return best
