"""The Kalman filter as an associative scan, whose depth grows with the logarithm of the length.

Särkkä & García-Fernández 2021, "Temporal parallelization of Bayesian smoothers", arXiv:1905.13002,
section 4.1, with states as row vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from brancher.distributions.shapes import broadcast_shapes


class Filtered(NamedTuple):
    """What some steps say about the state behind them, given the state before them.

    The state behind is normal with mean ``before @ matrix + mean`` and this covariance; as a function of the
    state before, the density of the observations is a normal one with these natural parameters.

    Attributes:
        matrix: shape (..., T, H, H), as are covariance and precision.
        mean: shape (..., T, H), as is pull.
        covariance: of the state behind.
        pull: precision times mean of the state before.
        precision: of the state before.
    """

    matrix: Tensor
    mean: Tensor
    covariance: Tensor
    pull: Tensor
    precision: Tensor

    @classmethod
    def of(cls, a: Tensor, shift: Tensor, q: Tensor, c: Tensor, value: Tensor, r: Tensor) -> Filtered:
        """One step each: ``z = before @ a + shift + noise`` seen as ``value = z @ c + noise``."""
        shared = q @ c
        factor = torch.linalg.cholesky(c.mT @ shared + r)
        gain = torch.cholesky_solve(shared.mT.expand(*factor.shape[:-2], *shared.mT.shape[-2:]), factor)
        error = value - (shift.unsqueeze(-2) @ c).squeeze(-2)
        # Joseph's form, which stays positive definite.
        rest = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device) - c @ gain
        covariance = rest.mT @ q @ rest + gain.mT @ r @ gain
        seen = (a @ c).mT
        weight = torch.cholesky_solve(seen.expand(*factor.shape[:-2], *seen.shape[-2:]), factor)
        mean = shift + (error.unsqueeze(-2) @ gain).squeeze(-2)
        pull = (error.unsqueeze(-2) @ weight).squeeze(-2)
        return cls(a @ rest, mean, covariance, pull, seen.mT @ weight)

    def then(self, later: Filtered) -> Filtered:
        """These steps and the later ones together."""
        size = self.matrix.shape[-1]
        identity = torch.eye(size, dtype=self.matrix.dtype, device=self.matrix.device)
        left = later.pull - _times(self.mean, later.precision)
        wanted = torch.cat([later.matrix, later.precision, left.unsqueeze(-1)], -1)
        solved = torch.linalg.solve(identity + later.precision @ self.covariance, wanted)
        onward, precision, pull = solved.split([size, size, 1], dim=-1)
        return Filtered(
            self.matrix @ onward,
            _times(self.mean + _times(later.pull, self.covariance), onward) + later.mean,
            onward.mT @ self.covariance @ later.matrix + later.covariance,
            (self.matrix @ pull).squeeze(-1) + self.pull,
            self.matrix @ precision @ self.matrix.mT + self.precision,
        )


def scan(first: Filtered, steps: Filtered) -> Filtered:
    """Each step together with all before it.

    Args:
        first: what the first step says together with the law of the state before it, T = 1.
        steps: all steps by themselves; the first of them is not used.
    """
    ranks = (3, 2, 3, 2, 3)
    batch = broadcast_shapes(
        *(part.shape[: part.dim() - r] for f in (first, steps) for part, r in zip(f, ranks, strict=True))
    )
    length = max(part.shape[part.dim() - r] for part, r in zip(steps, ranks, strict=True))

    def joined(one: Tensor, rest: Tensor, rank: int) -> Tensor:
        one = one.expand(*batch, 1, *one.shape[1 + one.dim() - rank :])
        rest = rest.expand(*batch, length, *rest.shape[1 + rest.dim() - rank :])
        return torch.cat([one, rest.narrow(-rank, 1, length - 1)], -rank)

    all_steps = Filtered(
        *(joined(one, rest, rank) for one, rest, rank in zip(first, steps, ranks, strict=True))
    )
    reach = 1
    while reach < length:
        early = Filtered(
            *(part.narrow(-r, 0, length - reach) for part, r in zip(all_steps, ranks, strict=True))
        )
        late = Filtered(
            *(part.narrow(-r, reach, length - reach) for part, r in zip(all_steps, ranks, strict=True))
        )
        whole = early.then(late)
        all_steps = Filtered(
            *(
                torch.cat([part.narrow(-r, 0, reach), done], -r)
                for part, done, r in zip(all_steps, whole, ranks, strict=True)
            )
        )
        reach *= 2
    return all_steps


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    return (row.unsqueeze(-2) @ matrix).squeeze(-2)
