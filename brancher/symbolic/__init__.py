"""Models as algebra over random variables, lowered to the primitives of function models."""

from typing import Any

from brancher.symbolic import flows, geometric_ranges, inference, processes
from brancher.symbolic import functions as BF
from brancher.symbolic.data import DeterministicVariable, EmpiricalVariable, RandomIndices, RootVariable
from brancher.symbolic.ensemble import Ensemble
from brancher.symbolic.expressions import Expression, as_parent
from brancher.symbolic.functions import BrancherFunction
from brancher.symbolic.models import ProbabilisticModel
from brancher.symbolic.old_names import missing
from brancher.symbolic.policies import RewardVariable
from brancher.symbolic.processes import (
    DiscreteTimeSeries,
    GaussianProcess,
    LatentTimeSeriesModel,
    MarkovProcess,
)
from brancher.symbolic.truncated import TruncatedModel, truncate_model
from brancher.symbolic.variables import VARIABLES, RandomVariable, Variable

globals().update(VARIABLES)


def __getattr__(name: str) -> Any:
    raise missing(__name__, name, __all__)


__all__ = [
    "BF",
    "BrancherFunction",
    "DeterministicVariable",
    "DiscreteTimeSeries",
    "EmpiricalVariable",
    "Ensemble",
    "Expression",
    "GaussianProcess",
    "LatentTimeSeriesModel",
    "MarkovProcess",
    "ProbabilisticModel",
    "RandomIndices",
    "RandomVariable",
    "RewardVariable",
    "RootVariable",
    "TruncatedModel",
    "Variable",
    "as_parent",
    "flows",
    "geometric_ranges",
    "inference",
    "processes",
    "truncate_model",
    *VARIABLES,
]
