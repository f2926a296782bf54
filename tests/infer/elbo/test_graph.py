from __future__ import annotations

import pytest
import torch

import brancher.distributions as dist
from brancher import get_param_store, module, param, plate, sample
from brancher.distributions import constraints
from brancher.errors import InferenceError
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


def coin() -> None:
    with plate("row", 3):
        sample("z", dist.Bernoulli(0.4))


def coin_guide(**options: object):
    def run() -> None:
        probs = param("probs", torch.full((3,), 0.3), constraint=constraints.unit_interval)
        with plate("row", 3):
            sample("z", dist.Bernoulli(probs), infer={"baseline": options})

    return run


def grads_of(guide, *leaves: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(1)
    loss = TraceGraph_ELBO().differentiable_loss(coin, guide)
    return list(torch.autograd.grad(loss, [get_param_store().leaf("probs"), *leaves]))


def test_learned_baseline_enters_like_a_constant_one() -> None:
    param("probs", torch.full((3,), 0.3), constraint=constraints.unit_interval)
    value = torch.tensor([0.5, -0.2, 0.1])
    (right,) = grads_of(coin_guide(baseline_value=value))
    leaf = value.clone().requires_grad_()
    (got, _) = grads_of(coin_guide(baseline_value=leaf), leaf)
    torch.testing.assert_close(got, right)


def test_learned_baseline_goes_to_the_signal() -> None:
    param("probs", torch.full((3,), 0.3), constraint=constraints.unit_interval)
    leaf = torch.tensor([0.5, -0.2, 0.1], requires_grad=True)
    (_, got) = grads_of(coin_guide(baseline_value=leaf), leaf)
    torch.manual_seed(1)
    z = dist.Bernoulli(torch.full((3,), 0.3)).sample()
    signal = dist.Bernoulli(0.4).log_prob(z) - dist.Bernoulli(0.3).log_prob(z)
    torch.testing.assert_close(got, 2 * (leaf.detach() - signal))


def test_network_baseline_learns_in_svi() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    given = coin_guide(nn_baseline=network, nn_baseline_input=torch.ones(3, 2))

    def with_module() -> None:
        module("baseline", network)
        given()

    before = network[0].bias.detach().clone()
    SVI(coin, with_module, SGD({"lr": 0.1}), TraceGraph_ELBO()).step()
    assert not torch.equal(before, network[0].bias)


def test_unknown_baseline_option_error() -> None:
    with pytest.raises(InferenceError, match=r"site 'z': expected baseline options of .* got \['value'\]"):
        TraceGraph_ELBO().loss(coin, coin_guide(value=1.0))


def test_baseline_of_another_shape_error() -> None:
    with pytest.raises(InferenceError, match=r"site 'z': expected a baseline of shape \(3,\).* got \(2,\)"):
        TraceGraph_ELBO().loss(coin, coin_guide(baseline_value=torch.zeros(2)))
