"""Policies: variables whose learned values are fitted to an expected reward.

A policy is any learnable variable of a model, an action's law say; a reward is a named expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from brancher.distributions.shapes import broadcast
from brancher.errors import InferenceError
from brancher.handlers import Trace, trace
from brancher.handlers.density import score
from brancher.infer import SVI
from brancher.infer.particles import particle_plate
from brancher.symbolic.data import DeterministicVariable
from brancher.symbolic.gradients import estimated
from brancher.symbolic.graph import closure
from brancher.symbolic.methods import InferenceMethod, Settings, _nothing
from brancher.symbolic.program import Program
from brancher.symbolic.variables import RandomVariable

if TYPE_CHECKING:
    import pandas as pd

    from brancher.symbolic.models import ProbabilisticModel


class RewardVariable(DeterministicVariable):
    """A reward, computed from other variables.

    ``inference.ExpectedReward`` makes the sum of all rewards of a model as large as it can.

    Args:
        value: an expression.
        name: unique within a model.

    Example:
        >>> from brancher.symbolic import NormalVariable, ProbabilisticModel, RewardVariable, inference
        >>> action = NormalVariable(0.0, 1.0, "action", learnable=True)
        >>> reward = RewardVariable(-((action - 3.0) ** 2), "reward")
        >>> model = ProbabilisticModel([reward])
        >>> method = inference.ExpectedReward()
        >>> options = {"inference_method": method, "progress": False, "compile": False}
        >>> fit = inference.perform_inference(model, 200, 10, lr=0.1, **options)
        >>> bool(abs(model.parameters["action.loc"] - 3.0) < 0.1)
        True
    """

    def __init__(self, value: Any, name: Any = None) -> None:
        super().__init__(value, name)


class ExpectedReward(InferenceMethod):
    """Fit learned values to the largest expected sum of a model's rewards.

    Gradients go through actions that can be differentiated (pathwise), and use the score function for
    others (REINFORCE, Williams 1992, eq. 6): each action answers for the rewards that depend on it, less
    the mean reward of the other draws. After the fit the policy is what the model draws.

    Args:
        gradient_estimator: ``"score"`` for the score function throughout, where a reward is not
            differentiable in the actions; ``"pathwise"`` or None for what fits each variable.

    Raises:
        InferenceError: the choice is unknown.
    """

    def __init__(self, gradient_estimator: str | None = None) -> None:
        if gradient_estimator not in (None, "pathwise", "score"):
            raise InferenceError(
                "ExpectedReward: expected gradient_estimator as 'pathwise', 'score' or None, got "
                f"{gradient_estimator!r}"
            )
        self.gradient_estimator = gradient_estimator

    def run(self, model: ProbabilisticModel, settings: Settings) -> pd.Series | None:
        program = model._program()
        rewards = [variable for variable in program.variables if isinstance(variable, RewardVariable)]
        if not rewards:
            raise InferenceError(
                "ExpectedReward: expected a RewardVariable in the model, got none; add "
                "RewardVariable(expression, name)"
            )
        loss = RewardLoss(rewards, settings.samples, program.nesting)
        svi = SVI(
            estimated(program, self.gradient_estimator),
            _nothing,
            settings.optimizer(False),
            loss,
            store=model._store,
            compile=settings.compile,
        )
        losses = svi.run(settings.iterations, progress=settings.progress, callback=settings.callback)
        losses = losses.reset_index(drop=True).rename("loss").rename_axis("iteration")
        model.diagnostics["reward curve"] = (-losses).rename("reward")
        if not model.has_posterior:
            model._posterior = _nothing
        return losses


class RewardLoss:
    """Negative expected sum of rewards, with gradients for every kind of action.

    Args:
        rewards: the rewards.
        count: draws a step, > 0.
        nesting: batch dimensions that plates use.
    """

    def __init__(self, rewards: Sequence[RewardVariable], count: int, nesting: int) -> None:
        self.count, self.nesting = count, nesting
        self._causes = {reward.name: _random_causes(reward) for reward in rewards}

    def __call__(self, model: Program, guide: Any) -> torch.Tensor:
        """The loss, shape ``()``."""
        with particle_plate(self.count, self.nesting):
            record = trace(model).get_trace()
        scores = {name: self._each(score(site)) for name, site in _undifferentiated(record).items()}
        total = surrogate = torch.zeros(())
        for name, causes in self._causes.items():
            reward = self._each(record.nodes[name].value)
            total, surrogate = total + reward.mean(), surrogate + reward.mean()
            advantage = (reward - self._baseline(reward)).detach()
            for cause in causes:
                if cause in scores:
                    surrogate = surrogate + (advantage * scores[cause]).mean()
        return -surrogate - (total - surrogate).detach()

    def _each(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over data points and data, shape (count,)."""
        lead = (self.count,) + (1,) * self.nesting
        whole = value.expand(broadcast("reward", value.shape, lead))
        return whole.reshape(self.count, -1).sum(1)

    def _baseline(self, reward: torch.Tensor) -> torch.Tensor:
        """Mean of the other draws, which leaves the gradient unbiased."""
        if self.count == 1:
            return torch.zeros_like(reward)
        return (reward.sum() - reward) / (self.count - 1)


def _undifferentiated(record: Trace) -> dict[str, Any]:
    """Sites whose draws carry no gradient."""
    return {
        site.name: site
        for site in record.sites("sample")
        if not site.is_observed and not getattr(site.fn, "has_rsample", False)
    }


def _random_causes(reward: RewardVariable) -> list[str]:
    nodes = closure([reward], lambda node: node.parents)
    return [node.name for node in nodes if isinstance(node, RandomVariable)]
