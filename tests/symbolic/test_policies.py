"""Policies against optima that are known: bandits, and a controlled chain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from brancher.errors import InferenceError
from brancher.symbolic import (
    BF,
    BernoulliVariable,
    CategoricalVariable,
    DeterministicVariable,
    NormalVariable,
    ProbabilisticModel,
    RewardVariable,
    inference,
)
from brancher.symbolic.gradients import estimated
from brancher.symbolic.policies import RewardLoss


def fit(model: ProbabilisticModel, *stages: tuple[int, float], samples: int = 50, **options: Any) -> Any:
    for steps, lr in stages:
        result = inference.perform_inference(
            model,
            steps,
            samples,
            lr=lr,
            inference_method=inference.ExpectedReward(**options),
            progress=False,
            compile=False,
            seed=0,
        )
    return result


def test_best_arm_is_found() -> None:
    action = CategoricalVariable(logits=[0.0, 0.0, 0.0], name="action", learnable=True)
    reward = RewardVariable(DeterministicVariable([0.1, 1.0, 0.3], "pay")[action], "reward")
    model = ProbabilisticModel([reward])
    fit(model, (150, 0.1))
    assert (model.get_sample(500, seed=0)["action"] == 1).mean() > 0.95
    assert model.diagnostics["reward curve"].iloc[-20:].mean() > 0.95


def test_network_decides_by_the_state() -> None:
    """Act where the state is positive: the best reward is E[max(s, 0)] = 0.399."""
    state = NormalVariable(0.0, 1.0, "state")
    logit = BF.BrancherFunction(nn.Linear(1, 1))(state)
    action = BernoulliVariable(logits=logit, name="action")
    model = ProbabilisticModel([RewardVariable(action * state, "reward")])
    fit(model, (200, 0.1))
    assert model.diagnostics["reward curve"].iloc[-50:].mean() > 0.37
    draws = model.get_sample(2000, seed=0)
    assert ((draws["action"] == 1) == (draws["state"] > 0))[draws["state"].abs() > 0.5].mean() > 0.97


def chain(gain: Any, steps: int = 4) -> ProbabilisticModel:
    """x goes on by the action -gain x; reward -(x^2 + action^2)."""
    x: Any = NormalVariable(0.0, 1.0, "x0")
    rewards = []
    for t in range(steps):
        action = NormalVariable(-gain * x, 0.1, f"u{t}")
        x = NormalVariable(x + action, 0.2, f"x{t + 1}")
        rewards.append(RewardVariable(-(x**2) - action**2, f"reward{t}"))
    return ProbabilisticModel(rewards)


def cost_of(gain: float, steps: int = 4) -> float:
    variance, cost = 1.0, 0.0
    for _ in range(steps):
        action = gain**2 * variance + 0.01
        variance = (1 - gain) ** 2 * variance + 0.01 + 0.04
        cost += variance + action
    return cost


@pytest.mark.parametrize("estimator", [None, "score"])
def test_gain_of_a_controlled_chain(estimator: str | None) -> None:
    gain = DeterministicVariable(0.2, "gain", learnable=True)
    model = chain(gain)
    fit(model, (60, 0.05), (60, 0.01), samples=400, gradient_estimator=estimator)
    grid = np.linspace(0, 1, 1001)
    best = grid[np.argmin([cost_of(g) for g in grid])]
    # The cost is flat at its minimum; 0.05 off in the gain is 0.005 in the cost.
    assert gain.value.item() == pytest.approx(best, abs=0.05)
    mean = model.get_mean(20_000, seed=0)
    reward = mean.loc[[f"reward{t}" for t in range(4)], "value"].sum()
    assert -reward == pytest.approx(cost_of(gain.value.item()), rel=0.03)


@pytest.mark.parametrize("estimator", [None, "score"])
def test_gradients_are_unbiased(estimator: str | None) -> None:
    """E -(a - 3)^2 for a ~ N(loc, scale): slopes -2 (loc - 3) and -2 scale."""
    action = NormalVariable(1.0, 0.5, "action", learnable=True)
    reward = RewardVariable(-((action - 3.0) ** 2), "reward")
    program = ProbabilisticModel([reward]).to_function()
    count = 200_000
    loss = RewardLoss([reward], count, 0)(estimated(program, estimator), None)
    holders = [action.arguments[key].holder._parameters["value"] for key in ("loc", "scale")]
    loc, scale = torch.autograd.grad(-loss, holders)
    assert float(loc) == pytest.approx(4.0, abs=0.15)
    # The scale is learned through softplus, whose slope at 0.5 is 1 - exp(-0.5).
    assert float(scale) == pytest.approx(-2 * 0.5 * (1 - np.exp(-0.5)), abs=0.06)
    assert float(loss.detach()) == pytest.approx(4.25, abs=0.05)


def test_discrete_gradient_is_unbiased() -> None:
    """E a = sigmoid(logit): slope p (1 - p)."""
    action = BernoulliVariable(logits=0.5, name="action", learnable=True)
    reward = RewardVariable(1.0 * action, "reward")
    program = ProbabilisticModel([reward]).to_function()
    loss = RewardLoss([reward], 100_000, 0)(program, None)
    (slope,) = torch.autograd.grad(-loss, [action.arguments["logits"].holder._parameters["value"]])
    p = 1 / (1 + np.exp(-0.5))
    assert float(slope) == pytest.approx(p * (1 - p), abs=0.01)


def test_actions_answer_for_later_rewards_only() -> None:
    first = BernoulliVariable(0.5, name="first")
    second = BernoulliVariable(0.5, name="second")
    early, late = RewardVariable(first * 1.0, "early"), RewardVariable(first + second, "late")
    loss = RewardLoss([early, late], 10, 0)
    assert loss._causes == {"early": ["first"], "late": ["first", "second"]}


def test_one_draw_a_step_is_enough() -> None:
    action = NormalVariable(0.0, 1.0, "action", learnable=True)
    model = ProbabilisticModel([RewardVariable(-((action - 1.0) ** 2), "reward")])
    fit(model, (300, 0.05), samples=1)
    assert model.parameters["action.loc"].item() == pytest.approx(1.0, abs=0.3)


def test_result_shows_the_policy() -> None:
    action = NormalVariable(0.0, 1.0, "action", learnable=True)
    model = ProbabilisticModel([RewardVariable(-(action**2), "reward")])
    assert "action" in repr(fit(model, (3, 0.05)))


def test_no_reward_error() -> None:
    model = ProbabilisticModel([NormalVariable(0.0, 1.0, "action", learnable=True)])
    with pytest.raises(InferenceError, match="expected a RewardVariable in the model"):
        fit(model, (1, 0.1))


def test_unknown_estimator_error() -> None:
    with pytest.raises(InferenceError, match="got 'taylor'"):
        inference.ExpectedReward("taylor")
