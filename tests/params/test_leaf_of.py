from __future__ import annotations

import copy
import io

import pytest
import torch

import brancher.distributions as dist
from brancher import get_param_store, handlers, module, param, sample
from brancher.distributions import constraints
from brancher.infer import Trace_ELBO
from brancher.infer.autoguide import AutoNormal


@pytest.mark.parametrize("constraint", [constraints.real, constraints.positive])
def test_value_tells_its_leaf(constraint):
    value = param("x", torch.tensor(2.0), constraint=constraint)
    assert value.unconstrained() is get_param_store().leaf("x")
    assert param("x").unconstrained() is get_param_store()["x"].unconstrained()


def test_parameters_of_guides_and_modules_tell_their_leaves_by_name():
    net = torch.nn.Linear(1, 1)
    module("net", net)
    guide = AutoNormal(lambda: sample("x", dist.Gamma(2.0, 1.0)))
    guide()
    assert param("net.weight").unconstrained() is net.weight
    assert param("AutoNormal.scales.x").unconstrained() is get_param_store().leaf("AutoNormal.scales.x")


def test_value_is_saved_without_its_leaf():
    file = io.BytesIO()
    torch.save({"x": param("x", torch.tensor(2.0))}, file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["x"] == 2.0


def test_value_can_be_copied():
    assert copy.deepcopy(param("x", torch.tensor(2.0))) == 2.0


def test_traced_parameters_of_guide_and_module_tell_their_leaves():
    net = torch.nn.Linear(1, 1)

    def model():
        x = sample("x", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        sample("y", dist.Normal(module("net", net)(x), 1.0).to_event(1))

    guide = AutoNormal(model)
    guide()
    with handlers.trace(param_only=True) as recorder:
        model()
        guide()
    leaves = [site["value"].unconstrained() for site in recorder.trace.nodes.values()]
    assert len(leaves) == 2 + 2 * 2
    assert all(leaf.is_leaf and leaf.requires_grad for leaf in leaves)
    assert any(leaf is net.weight for leaf in leaves)


def test_training_loop_of_ones_own():
    def model():
        scale = param("scale", torch.tensor(2.0), constraint=constraints.positive)
        sample("x", dist.Normal(param("loc", torch.tensor(3.0)), scale), obs=torch.tensor(1.0))

    with handlers.trace(param_only=True) as recorder:
        loss = Trace_ELBO().differentiable_loss(model, lambda: None)
    leaves = {site["value"].unconstrained() for site in recorder.trace.nodes.values()}
    loss.backward()
    torch.optim.SGD(leaves, lr=0.1).step()
    # d(loss)/d(loc) = (3 - 1) / 2^2; d(loss)/d(log scale) = 1 - (3 - 1)^2 / 2^2 = 0.
    torch.testing.assert_close(param("loc").detach(), torch.tensor(2.95))
    torch.testing.assert_close(param("scale").detach(), torch.tensor(2.0))
