"""Laws with extra mass at zero."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from brancher.distributions.anchors import anchor
from brancher.distributions.base import Distribution
from brancher.distributions.counts import NegativeBinomial, Poisson
from brancher.distributions.elementwise import example_of
from brancher.distributions.parameters import Number, expand_parameters, one_of, to_tensors
from brancher.distributions.shapes import Size, broadcast
from brancher.errors import DistributionError

# Below it, exp(-log_prob) could overflow; logaddexp has lost nothing there.
_RARE = -30.0


class ZeroInflatedDistribution(Distribution):
    """Zero with probability ``gate``, a draw of the base law otherwise.

    Where the base is discrete, both parts add up at zero. Where it is continuous, zero is an atom:
    ``log_prob`` is the logarithm of ``gate`` there, and of a density elsewhere.

    Args:
        base_dist: law with scalar events.
        gate: probability of an extra zero; or
        gate_logits: its log-odds.

    Example:
        >>> d = ZeroInflatedDistribution(Poisson(1.0), gate=0.5)
        >>> d.log_prob(torch.tensor(0.0)).exp()
        tensor(0.6839)
    """

    arg_constraints: dict[str, constraints.Constraint] = {
        "gate": constraints.unit_interval,
        "gate_logits": constraints.real,
    }
    base_dist: TorchDistribution
    gate: torch.Tensor | None = None
    gate_logits: torch.Tensor | None = None

    def __init__(
        self,
        base_dist: TorchDistribution,
        *,
        gate: Number | None = None,
        gate_logits: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if base_dist.event_shape:
            raise DistributionError(
                f"{type(self).__name__}: expected a base with scalar events, got "
                f"{type(base_dist).__name__} with event shape {tuple(base_dist.event_shape)}; "
                "inflate before to_event"
            )
        given = one_of(self, gate=gate, gate_logits=gate_logits)
        value = gate if given == "gate" else gate_logits
        value, _ = to_tensors(self, **{given: value}, base=example_of(base_dist))
        shape = broadcast(given, value.shape, base_dist.batch_shape)
        setattr(self, given, value.expand(shape))
        self.base_dist = base_dist if base_dist.batch_shape == shape else base_dist.expand(shape)
        super().__init__(shape, validate_args=validate_args)

    expand = expand_parameters

    @property
    def _is_discrete(self) -> bool:
        return bool(self.base_dist.support.is_discrete)  # type: ignore[union-attr]

    @constraints.dependent_property(event_dim=0)
    def support(self) -> Any:
        """The base's support, and zero."""
        base = self.base_dist.support
        return base if self._is_discrete else _WithZero(base)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """Every value of the base."""
        return self.base_dist.enumerate_support(expand=expand)

    def _probability(self) -> torch.Tensor:
        return self.gate_logits.sigmoid() if self.gate is None else self.gate  # type: ignore[union-attr]

    def _log_open(self, is_zero: torch.Tensor) -> torch.Tensor:
        """Log-probability that the base is drawn from, harmless at zeros."""
        if self.gate is None:
            return logsigmoid(-self.gate_logits)  # type: ignore[operator]
        return torch.where(is_zero, 0.0, -self.gate).log1p()

    def sample(self, sample_shape: Size = ()) -> torch.Tensor:
        """Draw from the base and put zeros."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            is_zero = torch.bernoulli(self._probability().expand(shape)).bool()
            return torch.where(is_zero, 0, self.base_dist.sample(torch.Size(sample_shape)))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-mass (or density beside zero) in nats, shape sample_shape + B."""
        if self._validate_args:
            self._validate_sample(value)
        is_zero = value == 0
        if self._is_discrete:
            log_base = self.base_dist.log_prob(value)
            at_zero = self._log_mass_at_zero(torch.where(is_zero, log_base, 0.0))
        else:
            beside = torch.where(is_zero, anchor(self.base_dist.support, value), value)
            log_base = self.base_dist.log_prob(beside)
            at_zero = self._log_atom(is_zero)
        return torch.where(is_zero, at_zero, self._log_open(is_zero) + log_base)

    def _log_atom(self, is_zero: torch.Tensor) -> torch.Tensor:
        """Log-probability of an extra zero, harmless elsewhere."""
        if self.gate is None:
            return logsigmoid(self.gate_logits)  # type: ignore[arg-type]
        return torch.where(is_zero, self.gate, 1.0).log()

    def _log_mass_at_zero(self, log_base: torch.Tensor) -> torch.Tensor:
        """``log(gate + (1 - gate) exp(log_base))`` with finite gradients at a gate of 0 and 1."""
        if self.gate is None:
            logits: Any = self.gate_logits
            return torch.logaddexp(logsigmoid(logits), logsigmoid(-logits) + log_base)
        is_likely = log_base > _RARE
        likely = torch.where(is_likely, log_base, 0.0)
        near = likely + (self.gate * (-likely).expm1()).log1p()
        is_inner = (self.gate > 0) & (self.gate < 1) & ~is_likely
        gate, rare = torch.where(is_inner, self.gate, 0.5), torch.where(is_inner, log_base, 0.0)
        far = torch.logaddexp(gate.log(), (-gate).log1p() + rare)
        at_ends = torch.where(self.gate > 0, 0.0, log_base)
        return torch.where(is_likely, near, torch.where(is_inner, far, at_ends))

    @property
    def mean(self) -> torch.Tensor:
        return (1.0 - self._probability()) * self.base_dist.mean

    @property
    def variance(self) -> torch.Tensor:
        gate = self._probability()
        return (1.0 - gate) * (self.base_dist.variance + gate * self.base_dist.mean**2)


class ZeroInflatedPoisson(ZeroInflatedDistribution):
    """Zero with probability ``gate``, a Poisson count otherwise.

    Args:
        rate: mean of the Poisson law; >= 0.
        gate: probability of an extra zero; or
        gate_logits: its log-odds.

    Example:
        >>> ZeroInflatedPoisson(2.0, gate=0.25).mean
        tensor(1.5000)
    """

    support = constraints.nonnegative_integer
    arg_constraints = {"rate": constraints.nonnegative, **ZeroInflatedDistribution.arg_constraints}

    def __init__(
        self,
        rate: Number,
        *,
        gate: Number | None = None,
        gate_logits: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base, gates = _like_gate(Poisson, gate, gate_logits, rate=rate)
        super().__init__(base, validate_args=validate_args, **gates)

    @property
    def rate(self) -> torch.Tensor:
        """Mean of the Poisson law."""
        base: Any = self.base_dist
        return base.rate  # type: ignore[no-any-return]


class ZeroInflatedNegativeBinomial(ZeroInflatedDistribution):
    """Zero with probability ``gate``, a negative binomial count otherwise.

    Args:
        total_count: number of failures of the base law; > 0.
        probs: probability of success of the base law; or
        logits: its log-odds.
        gate: probability of an extra zero; or
        gate_logits: its log-odds.

    Example:
        >>> ZeroInflatedNegativeBinomial(1.0, probs=0.5, gate=0.5).log_prob(torch.tensor(0.0)).exp()
        tensor(0.7500)
    """

    support = constraints.nonnegative_integer
    arg_constraints = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
        **ZeroInflatedDistribution.arg_constraints,
    }

    def __init__(
        self,
        total_count: Number,
        *,
        probs: Number | None = None,
        logits: Number | None = None,
        gate: Number | None = None,
        gate_logits: Number | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = one_of(self, probs=probs, logits=logits)
        odds = {given: probs if given == "probs" else logits}
        base, gates = _like_gate(NegativeBinomial, gate, gate_logits, total_count=total_count, **odds)
        super().__init__(base, validate_args=validate_args, **gates)

    @property
    def total_count(self) -> torch.Tensor:
        """Number of failures of the base law."""
        base: Any = self.base_dist
        return base.total_count  # type: ignore[no-any-return]

    @property
    def probs(self) -> torch.Tensor:
        """Probability of success of the base law."""
        base: Any = self.base_dist
        return base.probs  # type: ignore[no-any-return]

    @property
    def logits(self) -> torch.Tensor:
        """Log-odds of success of the base law."""
        base: Any = self.base_dist
        return base.logits  # type: ignore[no-any-return]


def _like_gate(
    family: type[Any], gate: Any, gate_logits: Any, **arguments: Any
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Build the base law with its numbers in the dtype and device of the gate, where that is a tensor."""
    given = one_of(f"ZeroInflated{family.__name__}", gate=gate, gate_logits=gate_logits)
    value = gate if given == "gate" else gate_logits
    *tensors, value = to_tensors(f"ZeroInflated{family.__name__}", **arguments, **{given: value})
    # Checked by the outer law, under its own parameters' names.
    return family(**dict(zip(arguments, tensors, strict=True)), validate_args=False), {given: value}


class _WithZero(constraints.Constraint):
    """A continuous support and the atom at zero; no transform leads there."""

    is_discrete = True

    def __init__(self, base: Any) -> None:
        self.base = base

    def check(self, value: torch.Tensor) -> torch.Tensor:
        return self.base.check(value) | (value == 0)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"WithZero({self.base})"
