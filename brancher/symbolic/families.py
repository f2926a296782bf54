"""Which variables there are: one entry a family of ``brancher.distributions``, read off its constructor."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import constraints

import brancher.distributions as distributions

#: Families whose constructors take distributions, shapes or functions rather than numbers.
_STRUCTURAL = frozenset(
    [
        "Delta",
        "DiscreteHMM",
        "Distribution",
        "Empirical",
        "ExpandedDistribution",
        "FoldedDistribution",
        "GaussianHMM",
        "ImproperUniform",
        "Independent",
        "MaskedDistribution",
        "MaskedMixture",
        "MixtureSameFamily",
        "TorchDistribution",
        "TransformedDistribution",
        "TruncatedDistribution",
        "Unit",
        "ZeroInflatedDistribution",
    ]
)
#: How the arguments of a variable are called where the distribution calls them otherwise.
_OWN_NAMES = {"Beta": {"concentration1": "alpha", "concentration0": "beta"}}
#: Arguments that are settings of a family, never random.
_OPTIONS = frozenset({"dim", "lims", "is_sparse", "num_quad_points"})
_COUNTS = frozenset({"Multinomial", "DirichletMultinomial"})
#: Constraints that a family does not declare, or declares as depending on the others.
_CONSTRAINTS: dict[str, dict[str, constraints.Constraint]] = {
    "Wishart": {
        "df": constraints.positive,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    },
    "DiscreteUniform": dict.fromkeys(("low", "high"), constraints.integer_interval(-math.inf, math.inf)),
}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a family.

    Attributes:
        name: what variables call it.
        keyword: what the distribution calls it.
        rank: data dimensions of one value.
        constraint: where its value lies.
        is_option: whether it is a setting, taken as it is.
        is_required: whether it has no default.
    """

    name: str
    keyword: str
    rank: int
    constraint: constraints.Constraint
    is_option: bool
    is_required: bool

    @property
    def is_learnable(self) -> bool:
        """Whether a value can be learned: it is continuous."""
        return not self.is_option and not _is_discrete(self.constraint)


@dataclass(frozen=True, slots=True)
class Family:
    """A family of distributions as variables see it.

    Attributes:
        name: the distribution's name.
        distribution: its class.
        arguments: in the constructor's order.
        event_rank: data dimensions of one draw; None where arguments decide.
    """

    name: str
    distribution: type
    arguments: tuple[Argument, ...]
    event_rank: int | None

    def argument(self, name: str) -> Argument | None:
        """The argument of a name, the variable's or the distribution's."""
        return next((each for each in self.arguments if name in (each.name, each.keyword)), None)


def _is_discrete(constraint: Any) -> bool:
    try:
        return bool(constraint.is_discrete)
    except NotImplementedError:
        return False


def _constraint_of(family: Any, keyword: str) -> Any:
    known = _CONSTRAINTS.get(family.__name__, {}).get(keyword)
    if known is not None:
        return known
    found = family.arg_constraints
    constraint = found.get(keyword, constraints.real) if isinstance(found, dict) else constraints.real
    return constraints.real if constraints.is_dependent(constraint) else constraint


def _event_rank(family: Any) -> int | None:
    try:
        return int(family.support.event_dim)
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _family(name: str) -> Family:
    family = getattr(distributions, name)
    arguments = []
    for keyword, parameter in list(inspect.signature(family.__init__).parameters.items())[1:]:
        if keyword == "validate_args":
            continue
        constraint = _constraint_of(family, keyword)
        is_option = keyword in _OPTIONS or (name in _COUNTS and keyword == "total_count")
        own = _OWN_NAMES.get(name, {}).get(keyword, keyword)
        required = parameter.default is inspect.Parameter.empty
        arguments.append(Argument(own, keyword, constraint.event_dim, constraint, is_option, required))
    return Family(name, family, tuple(arguments), _event_rank(family))


#: Families by name.
FAMILIES: dict[str, Family] = {
    name: _family(name)
    for name in distributions.__all__
    if name not in _STRUCTURAL
    and isinstance(getattr(distributions, name), type)
    and issubclass(getattr(distributions, name), torch.distributions.Distribution)
    and name != "ExponentialFamily"
}
