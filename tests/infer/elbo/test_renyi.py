from __future__ import annotations

import math

import pytest
import torch

import brancher.distributions as dist
from brancher import handlers, param, plate, sample
from brancher.errors import InferenceError
from brancher.infer import SVI, RenyiELBO, Trace_ELBO
from brancher.optim import Adam

ROWS = torch.tensor([0.3, -1.0, 2.0])


def model() -> None:
    z = sample("z", dist.Normal(0.0, 1.0))
    with plate("row", 3):
        sample("y", dist.Normal(z, 1.0), obs=ROWS)


def guide() -> None:
    sample("z", dist.Normal(param("loc", torch.tensor(0.2)), 0.7))


def log_weights(count: int) -> torch.Tensor:
    found = []
    for _ in range(count):
        drawn = handlers.trace(guide).get_trace()
        joint = handlers.trace(handlers.replay(model, trace=drawn)).get_trace()
        found.append(joint.log_prob_sum() - drawn.log_prob_sum())
    return torch.stack(found)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0, 2.0])
@pytest.mark.parametrize("vectorized", [True, False])
def test_renyi_is_the_power_mean_of_the_weights(alpha: float, vectorized: bool) -> None:
    objective = RenyiELBO(alpha, num_particles=4, vectorize_particles=vectorized)
    objective.loss(model, guide)  # lays out the particles
    torch.manual_seed(3)
    got = objective.loss(model, guide)
    torch.manual_seed(3)
    weights = log_weights(4).exp().detach()
    expected = -(weights ** (1 - alpha)).mean().log() / (1 - alpha)
    assert got == pytest.approx(float(expected), rel=1e-5)


def test_renyi_with_the_posterior_as_guide_is_the_evidence() -> None:
    def exact() -> None:
        sample("z", dist.Normal(ROWS.sum() / 4, 0.5))

    evidence = dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + torch.ones(3, 3)).log_prob(ROWS)
    assert RenyiELBO(num_particles=5).loss(model, exact) == pytest.approx(-float(evidence), rel=1e-5)


def test_renyi_gradient_is_that_of_the_power_mean() -> None:
    objective = RenyiELBO(0.5, num_particles=3, vectorize_particles=False)
    torch.manual_seed(3)
    objective.differentiable_loss(model, guide).backward()
    leaf = param("loc")
    got, leaf.grad = leaf.grad, None
    torch.manual_seed(3)
    (-2 * ((0.5 * log_weights(3)).logsumexp(0) - math.log(3.0))).backward()
    torch.testing.assert_close(got, leaf.grad)


def test_renyi_score_function_gradient_is_unbiased() -> None:
    def discrete() -> None:
        z = sample("z", dist.Bernoulli(0.4))
        sample("y", dist.Normal(z, 1.0), obs=torch.tensor(1.5))

    def guess() -> None:
        sample("z", dist.Bernoulli(logits=param("logit", torch.tensor(0.5))))

    objective = RenyiELBO(num_particles=2, vectorize_particles=False)
    grads = []
    for _ in range(500):
        objective.loss_and_grads(discrete, guess)
        grads.append(param("logit").grad)
        param("logit").grad = None
    logit = torch.tensor(0.5, requires_grad=True)
    q = torch.stack([torch.sigmoid(-logit), torch.sigmoid(logit)])
    p = (
        torch.tensor([0.6, 0.4])
        * dist.Normal(torch.tensor([0.0, 1.0]), 1.0).log_prob(torch.tensor(1.5)).exp()
    )
    w = p / q
    exact = -sum(q[i] * q[j] * ((w[i] + w[j]) / 2).log() for i in (0, 1) for j in (0, 1))
    exact.backward()
    draws = torch.stack(grads)
    # n = 500; |z| < 4.5 fails by chance less than once in 100 000 runs.
    assert abs(float((draws.mean() - logit.grad) / (draws.std() / 500**0.5))) < 4.5


def test_renyi_trains_in_svi() -> None:
    svi = SVI(model, guide, Adam({"lr": 0.02}), RenyiELBO(num_particles=5))
    path = []
    for _ in range(300):
        svi.step()
        path.append(float(param("loc").detach()))
    # The posterior's mean is 0.325; the path moves around it with a spread of 0.1 and a memory of 50 steps.
    assert sum(path[100:]) / 200 == pytest.approx(0.325, abs=0.15)


@pytest.mark.parametrize(("alpha", "count"), [(1.0, 2), (float("nan"), 2), (0.0, 1)])
def test_renyi_argument_error(alpha: float, count: int) -> None:
    with pytest.raises(InferenceError, match="RenyiELBO: expected .*; use Trace_ELBO"):
        RenyiELBO(alpha, num_particles=count)


def test_renyi_towards_one_is_the_elbo() -> None:
    torch.manual_seed(3)
    near = RenyiELBO(1 - 1e-3, num_particles=4, vectorize_particles=False).loss(model, guide)
    torch.manual_seed(3)
    elbo = Trace_ELBO(num_particles=4, vectorize_particles=False).loss(model, guide)
    assert near == pytest.approx(elbo, abs=0.02)
