from __future__ import annotations

import torch

import brancher.distributions as dist
from brancher import get_param_store, param, plate, sample
from brancher.distributions import constraints
from brancher.infer import SVI, JitTrace_ELBO, Trace_ELBO, TraceGraph_ELBO
from brancher.optim import SGD

DATA = torch.tensor([0.1, 1.2, 2.5])


def model() -> None:
    with plate("row", 3):
        z = sample("z", dist.Bernoulli(0.4))
        sample("y", dist.Normal(z, 1.0), obs=DATA)


def guide() -> None:
    probs = param("probs", torch.full((3,), 0.3), constraint=constraints.unit_interval)
    with plate("row", 3):
        sample("z", dist.Bernoulli(probs))


def gradient(objective: Trace_ELBO) -> torch.Tensor:
    torch.manual_seed(1)
    objective.loss_and_grads(model, guide)
    leaf = get_param_store().leaf("probs")
    grad, leaf.grad = leaf.grad, None
    assert grad is not None
    return grad


def test_trace_graph_is_trace_elbo_without_baselines() -> None:
    torch.testing.assert_close(gradient(TraceGraph_ELBO()), gradient(Trace_ELBO(baseline_decay=None)))


def test_trace_graph_keeps_no_average_unless_a_site_asks() -> None:
    objective = TraceGraph_ELBO()
    gradient(objective)
    assert objective.state_dict() == {}


def test_jit_objective_asks_for_compiled_steps() -> None:
    assert SVI(model, guide, SGD({"lr": 0.1}), JitTrace_ELBO()).compile is True


def test_setting_of_svi_wins_over_jit_objective() -> None:
    assert SVI(model, guide, SGD({"lr": 0.1}), JitTrace_ELBO(), compile=False).compile is False
