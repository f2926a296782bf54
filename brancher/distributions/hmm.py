"""Whole series with a hidden state, as one law: the states are summed or integrated out."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import constraints

from brancher.distributions.algebra import Independent
from brancher.distributions.base import Distribution
from brancher.distributions.categorical import Categorical
from brancher.distributions.kalman import Filtered, scan
from brancher.distributions.multivariate import MultivariateNormal
from brancher.distributions.normal import Normal
from brancher.distributions.shapes import Size, broadcast
from brancher.errors import DistributionError, DistributionTypeError

#: Where the dimension of steps stands in the parts of a GaussianHMM.
_AT = (-3, -2, -3, -3, -2, -3)


class _HMM(Distribution):
    """A law of series ``(duration, *observation)`` whose parts may differ from step to step.

    Args:
        shape: batch shape of all parts, whose last dimension counts the steps; 1 where they are alike.
        duration: length of the series; that dimension for None, or any where all steps are alike.
        observation_shape: shape of one observation.
        validate_args: as for every distribution.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, shape: Size, duration: int | None, observation_shape: Size, validate_args: bool | None
    ) -> None:
        steps = shape[-1]
        #: Whether series of every length are scored: draws have one step.
        self.takes_any_length = duration is None and steps == 1
        if duration is None:
            duration = steps
        if (
            isinstance(duration, bool)
            or not isinstance(duration, int)
            or duration < 1
            or steps not in (1, duration)
        ):
            raise DistributionError(
                f"{type(self).__name__}: expected duration as an int > 0 that is the number of steps of its "
                f"parts, {steps} (1 where all steps are alike), got {duration!r}; give duration=len(data)"
            )
        self.duration = duration
        super().__init__(torch.Size(shape[:-1]), torch.Size((duration, *observation_shape)), validate_args)

    def _as_long_as(self, value: Tensor) -> Any:
        """The law of series as long as ``value``."""
        rank = len(self.event_shape) - 1
        if not self.takes_any_length or value.dim() <= rank:
            return self
        steps = value.shape[-1 - rank]
        law = copy.copy(self)
        law.duration, law.takes_any_length = steps, False
        law._event_shape = torch.Size((steps, *self.event_shape[1:]))
        return law

    def _with_batch(self, batch_shape: Size, parts: dict[str, Any], instance: Any) -> Any:
        """The same law with parts for another batch shape."""
        new: Any = self._get_checked_instance(type(self), instance)  # type: ignore[no-untyped-call]
        new.__dict__.update(parts, duration=self.duration, takes_any_length=self.takes_any_length)
        Distribution.__init__(new, torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self.__dict__.get("_is_checked", True)
        return new


class DiscreteHMM(_HMM):
    """A hidden Markov chain over S states.

    ``z_0 ~ Categorical(initial_logits)``; then for each step
    ``z_t ~ Categorical(transition_logits[z_{t-1}])`` and ``x_t ~ observation_dist[z_t]``. The states are
    summed out by matrix products in pairs, so that the depth of the computation grows with the logarithm of
    the length (Särkkä & García-Fernández 2019, arXiv:1905.13002). B is the batch shape, T the number
    of steps of the parts: the duration, or 1.

    Args:
        initial_logits: log-weights of the first state, shape B + (S,).
        transition_logits: log-weights of the next state in the last dimension, shape B + (T, S, S).
        observation_dist: law of an observation given each state, batch shape B + (T, S).
        duration: length of the series where all steps are alike; None to score series of any length.

    Raises:
        DistributionError: sizes do not fit together.
        DistributionTypeError: ``observation_dist`` is no distribution.

    Example:
        >>> from brancher.distributions import DiscreteHMM, Normal
        >>> seen = Normal(torch.tensor([-1.0, 1.0]), 1.0)
        >>> law = DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), seen, duration=5)
        >>> law.sample().shape, law.log_prob(torch.zeros(5))
        (torch.Size([5]), tensor(-7.0947))
    """

    def __init__(
        self,
        initial_logits: Tensor,
        transition_logits: Tensor,
        observation_dist: Any,
        validate_args: bool | None = None,
        duration: int | None = None,
    ) -> None:
        if not isinstance(observation_dist, TorchDistribution):
            raise DistributionTypeError(
                "DiscreteHMM: expected observation_dist as a distribution, got "
                f"{type(observation_dist).__name__}; give one with a last batch dimension of states"
            )
        states = initial_logits.shape[-1] if initial_logits.dim() else 0
        batch = observation_dist.batch_shape
        if transition_logits.shape[-2:] != (states, states) or batch[-1:] not in ((states,), (1,)):
            raise DistributionError(
                f"DiscreteHMM: expected transition_logits of shape (..., {states}, {states}) and an "
                f"observation_dist of batch shape (..., {states}) for {states} initial_logits, got "
                f"{tuple(transition_logits.shape)} and {tuple(batch)}"
            )
        shape = broadcast(
            "DiscreteHMM",
            (*initial_logits.shape[:-1], 1),
            transition_logits.shape[:-2] or (1,),
            batch[:-1] or (1,),
        )
        self.initial_logits = initial_logits.log_softmax(-1)
        self.transition_logits = transition_logits.log_softmax(-1)
        self.observation_dist = observation_dist
        super().__init__(shape, duration, observation_dist.event_shape, validate_args)

    @property
    def support(self) -> Any:
        """That of one observation, at every step."""
        return constraints.independent(self.observation_dist.support, 1)

    def expand(self, batch_shape: Size, _instance: Any = None) -> DiscreteHMM:
        """Return independent copies for a larger batch shape."""
        names = ("initial_logits", "transition_logits", "observation_dist")
        target = broadcast("batch_shape", self.batch_shape, batch_shape)
        parts: dict[str, Any] = {name: getattr(self, name) for name in names}
        result: DiscreteHMM = self._with_batch(target, parts, _instance)
        return result

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of series in nats, shape sample_shape + B."""
        if self.takes_any_length:
            return self._as_long_as(value).log_prob(value)  # type: ignore[no-any-return]
        if self._validate_args:
            self._validate_sample(value)
        steps = self._log_steps(value)
        final = (self.initial_logits.unsqueeze(-1) + _product(steps)).logsumexp((-2, -1))
        return final.expand(broadcast("value", value.shape[: value.dim() - self.event_dim], self.batch_shape))

    def filter(self, value: Tensor) -> Categorical:
        """Law of the last state given a series, batch shape sample_shape + B."""
        if self.takes_any_length:
            return self._as_long_as(value).filter(value)  # type: ignore[no-any-return]
        if self._validate_args:
            self._validate_sample(value)
        logits = (self.initial_logits.unsqueeze(-1) + _product(self._log_steps(value))).logsumexp(-2)
        return Categorical(
            logits=logits.expand(*value.shape[: value.dim() - self.event_dim], logits.shape[-1])
        )

    def _log_steps(self, value: Tensor) -> Tensor:
        """Log-weights of each step's transition and observation, shape (..., duration, S, S)."""
        observed = self.observation_dist.log_prob(
            value.unsqueeze(-1 - len(self.observation_dist.event_shape))
        )
        steps = self.transition_logits + observed.unsqueeze(-2)
        return steps.expand(*steps.shape[:-3], self.duration, *steps.shape[-2:])

    def sample(self, sample_shape: Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw states and observations step by step, without a gradient; shape sample_shape + B + E."""
        with torch.no_grad():
            batch = self.shape(torch.Size(sample_shape))[: -self.event_dim]
            state = Categorical(logits=self.initial_logits.expand(*batch, -1)).sample()  # type: ignore[no-untyped-call]
            alike = self.transition_logits.dim() < 3 or self.transition_logits.shape[-3] == 1
            moves = (
                self.transition_logits if self.transition_logits.dim() > 2 else self.transition_logits[None]
            )
            states = []
            for step in range(self.duration):
                table = moves[..., 0 if alike else step, :, :].expand(*batch, *moves.shape[-2:])
                row = state[..., None, None].expand(*batch, 1, moves.shape[-1])
                state = Categorical(logits=table.gather(-2, row).squeeze(-2)).sample()  # type: ignore[no-untyped-call]
                states.append(state)
            return self._observed(torch.stack(states, -1), batch)

    def _observed(self, states: Tensor, batch: torch.Size) -> Tensor:
        law = self.observation_dist
        target = (*batch, self.duration, self.initial_logits.shape[-1])
        draws = law.expand(target).sample()
        event = len(law.event_shape)
        index = states.reshape(*states.shape, *[1] * (1 + event)).expand(*states.shape, 1, *law.event_shape)
        picked: Tensor = draws.gather(-1 - event, index).squeeze(-1 - event)
        return picked


class GaussianHMM(_HMM):
    """A hidden state of H numbers that moves linearly, seen through linear observations of O numbers.

    ``z_0 ~ initial_dist``; then for each step ``z_t = z_{t-1} A + transition noise`` and
    ``x_t = z_t C + observation noise``, states as row vectors. The states are integrated out by the Kalman
    filter, all steps at once. B is the batch shape, T the number of steps of the parts: the duration, or 1.

    Args:
        initial_dist: law of z_0, a MultivariateNormal or ``Normal(...).to_event(1)`` of length H and batch
            shape B.
        transition_matrix: A, shape B + (T, H, H).
        transition_dist: noise, of length H, batch shape B + (T,).
        observation_matrix: C, shape B + (T, H, O).
        observation_dist: noise, of length O, batch shape B + (T,).
        duration: length of the series where all steps are alike; None to score series of any length.

    Raises:
        DistributionError: sizes do not fit together.
        DistributionTypeError: a law is not normal.

    Example:
        >>> from brancher.distributions import GaussianHMM, Normal
        >>> noise = Normal(torch.zeros(1), 1.0).to_event(1)
        >>> law = GaussianHMM(noise, torch.eye(1), noise, torch.eye(1), noise, duration=3)
        >>> law.log_prob(torch.zeros(3, 1))
        tensor(-4.2791)
    """

    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        initial_dist: Any,
        transition_matrix: Tensor,
        transition_dist: Any,
        observation_matrix: Tensor,
        observation_dist: Any,
        validate_args: bool | None = None,
        duration: int | None = None,
    ) -> None:
        laws = {
            "initial_dist": initial_dist,
            "transition_dist": transition_dist,
            "observation_dist": observation_dist,
        }
        first, move, seen = (_moments(name, law) for name, law in laws.items())
        hidden, observed = first[0].shape[-1], seen[0].shape[-1]
        expected = ((hidden, hidden), (hidden, observed), hidden)
        got = (tuple(transition_matrix.shape[-2:]), tuple(observation_matrix.shape[-2:]), move[0].shape[-1])
        if got != expected:
            raise DistributionError(
                f"GaussianHMM: expected transition_matrix {expected[0]}, observation_matrix {expected[1]} "
                f"and transition_dist of length {hidden}, got {got[0]}, {got[1]} and {got[2]}; states are "
                "row vectors"
            )
        shapes = [
            transition_matrix.shape[:-2],
            move[0].shape[:-1],
            observation_matrix.shape[:-2],
            seen[0].shape[:-1],
        ]
        shape = broadcast("GaussianHMM", (*first[0].shape[:-1], 1), *(each or (1,) for each in shapes))
        self.hidden_dim, self.obs_dim = hidden, observed
        self.initial_dist, self.transition_dist, self.observation_dist = laws.values()
        self.transition_matrix, self.observation_matrix = transition_matrix, observation_matrix
        super().__init__(shape, duration, (observed,), validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> GaussianHMM:
        """Return independent copies for a larger batch shape."""
        names = (
            "initial_dist",
            "transition_dist",
            "observation_dist",
            "transition_matrix",
            "observation_matrix",
        )
        parts = {name: getattr(self, name) for name in (*names, "hidden_dim", "obs_dim")}
        target = broadcast("batch_shape", self.batch_shape, batch_shape)
        result: GaussianHMM = self._with_batch(target, parts, _instance)
        return result

    def _parts(self) -> tuple[Tensor, ...]:
        """A, mean and covariance of its noise, C, mean and covariance of its noise, each with all steps."""
        move = _moments("transition_dist", self.transition_dist)
        seen = _moments("observation_dist", self.observation_dist)
        parts = (self.transition_matrix, *move, self.observation_matrix, *seen)
        return tuple(_by_step(part, -at - 1, self.duration) for part, at in zip(parts, _AT, strict=True))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of series in nats, shape sample_shape + B."""
        if self.takes_any_length:
            return self._as_long_as(value).log_prob(value)  # type: ignore[no-any-return]
        if self._validate_args:
            self._validate_sample(value)
        total = self._filtered(value)[0]
        return total.expand(broadcast("value", value.shape[:-2], self.batch_shape))

    def filter(self, value: Tensor) -> MultivariateNormal:
        """Law of the last state given a series, batch shape sample_shape + B."""
        if self.takes_any_length:
            return self._as_long_as(value).filter(value)  # type: ignore[no-any-return]
        if self._validate_args:
            self._validate_sample(value)
        _, mean, covariance = self._filtered(value)
        batch = broadcast("value", value.shape[:-2], self.batch_shape)
        return MultivariateNormal(
            mean.expand(*batch, self.hidden_dim), covariance.expand(*batch, self.hidden_dim, self.hidden_dim)
        )

    def _filtered(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The Kalman filter of all steps at once: log-density, mean and covariance of the last state."""
        start, spread = _moments("initial_dist", self.initial_dist)
        a, shift, q, c, offset, r = self._parts()
        ahead = start.unsqueeze(-2) @ a[..., 0, :, :] + shift[..., :1, :]
        first = a[..., :1, :, :].mT @ spread.unsqueeze(-3) @ a[..., :1, :, :] + q[..., :1, :, :]
        steps = Filtered.of(a, shift, q, c, value - offset, r)
        begun = Filtered.of(
            0.0 * a[..., :1, :, :],
            ahead,
            first,
            c[..., :1, :, :],
            (value - offset)[..., :1, :],
            r[..., :1, :, :],
        )
        filtered = scan(begun, steps)
        before = torch.cat(
            [start.unsqueeze(-2).expand_as(filtered.mean[..., :1, :]), filtered.mean[..., :-1, :]], -2
        )
        spreads = filtered.covariance
        held = torch.cat(
            [spread.unsqueeze(-3).expand_as(spreads[..., :1, :, :]), spreads[..., :-1, :, :]], -3
        )
        error = value - offset - _times(_times(before, a) + shift, c)
        factor = torch.linalg.cholesky(c.mT @ (a.mT @ held @ a + q) @ c + r)
        law = MultivariateNormal(torch.zeros_like(error), scale_tril=factor, validate_args=False)
        return law.log_prob(error).sum(-1), filtered.mean[..., -1, :], spreads[..., -1, :, :]

    def rsample(self, sample_shape: Size = torch.Size()) -> Tensor:  # noqa: B008
        """Draw series, shape sample_shape + B + E."""
        batch = self.shape(torch.Size(sample_shape))[:-2]
        state = self.initial_dist.expand(batch).rsample()
        found = []
        steps = (part.unbind(at) for part, at in zip(self._parts(), _AT, strict=True))
        for a, shift, q, c, offset, r in zip(*steps, strict=True):
            state = _times(state, a) + _noise(shift, q, batch)
            found.append(_times(state, c) + _noise(offset, r, batch))
        return torch.stack(found, -2)


def _product(steps: Tensor) -> Tensor:
    """The product of a chain of matrices in log-space, in pairs; shape (..., T, S, S) to (..., S, S)."""
    while (count := steps.shape[-3]) > 1:
        left, right = steps[..., 0 : count - 1 : 2, :, :], steps[..., 1:count:2, :, :]
        joined = (left.unsqueeze(-1) + right.unsqueeze(-3)).logsumexp(-2)
        steps = torch.cat([joined, steps[..., -1:, :, :]], -3) if count % 2 else joined
    return steps.squeeze(-3)


def _moments(name: str, law: Any) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a normal law of vectors."""
    if isinstance(law, torch.distributions.MultivariateNormal):
        return law.loc, law.covariance_matrix
    inner = getattr(law, "base_dist", None)
    is_vector = (
        isinstance(law, (Independent, torch.distributions.Independent)) and law.reinterpreted_batch_ndims == 1
    )
    if is_vector and isinstance(inner, (Normal, torch.distributions.Normal)):
        return inner.loc, torch.diag_embed(inner.scale.square())
    raise DistributionTypeError(
        f"GaussianHMM: expected {name} as a MultivariateNormal or Normal(loc, scale).to_event(1), got "
        f"{type(law).__name__}"
    )


def _by_step(part: Tensor, rank: int, duration: int) -> Tensor:
    """A part with a dimension of steps left of its last ``rank`` ones."""
    part = part if part.dim() > rank else part.unsqueeze(0)
    return part.expand(*part.shape[: -1 - rank], duration, *part.shape[part.dim() - rank :])


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    return (row.unsqueeze(-2) @ matrix).squeeze(-2)


def _noise(mean: Tensor, covariance: Tensor, batch: torch.Size) -> Tensor:
    law = MultivariateNormal(mean, scale_tril=torch.linalg.cholesky(covariance))
    return law.expand(batch).rsample()
