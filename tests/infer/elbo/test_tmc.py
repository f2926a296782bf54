"""Tensor Monte Carlo: unbiased evidence, exact limits, exact gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from brancher import distributions as dist
from brancher import handlers, optim, param, plate, sample
from brancher.errors import SiteError, UnsupportedError
from brancher.infer import SVI, TraceEnum_ELBO, TraceTMC_ELBO, config_enumerate

X = torch.tensor([0.3, 1.0, -0.4])


def chain():
    a = sample("a", dist.Normal(0.0, 0.5))
    b = sample("b", dist.Normal(a, 1.0))
    c = sample("c", dist.Normal(0.5 * (a + b), 1.0))
    sample("x", dist.Normal(c, 1.0), obs=torch.tensor(1.0))


def chain_evidence():
    # c = a + noise / 2 + noise, x = c + noise; wide laws of narrow ones, so that weights have light tails.
    return math.exp(float(dist.Normal(0.0, (0.25 + 0.25 + 1 + 1) ** 0.5).log_prob(torch.tensor(1.0))))


def rows():
    mu = sample("mu", dist.Normal(0.0, 0.4))
    with plate("row", 3):
        z = sample("z", dist.Normal(mu, 1.0))
        sample("x", dist.Normal(z, 1.0), obs=X)


def rows_evidence():
    covariance = 0.16 * torch.ones(3, 3) + 2.0 * torch.eye(3)
    return math.exp(float(dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(X)))


def rows_guide():
    mu = sample("mu", dist.Normal(0.1, 0.4))
    with plate("row", 3):
        sample("z", dist.Normal(mu + 0.3 * X, 1.0))


def partly():
    sample("mu", dist.Normal(0.1, 0.4))


@pytest.mark.parametrize(
    ("model", "guide", "evidence"),
    [
        (chain, lambda: None, chain_evidence()),
        (rows, lambda: None, rows_evidence()),
        (rows, rows_guide, rows_evidence()),
        (rows, partly, rows_evidence()),
    ],
    ids=["chain", "rows", "guided rows", "partly guided rows"],
)
def test_evidence_is_unbiased(model, guide, evidence):
    torch.manual_seed(0)
    elbo = TraceTMC_ELBO(max_plate_nesting=1)
    model, guide = config_enumerate(model, num_samples=4), config_enumerate(guide, num_samples=4)
    draws = torch.tensor([-elbo.loss(model, guide) for _ in range(400)]).exp()
    # |z| > 4 once in 16,000 runs.
    assert abs(float((draws.mean() - evidence) / (draws.std() / 20.0))) < 4.0


def test_many_draws_give_the_evidence():
    torch.manual_seed(0)
    loss = TraceTMC_ELBO(max_plate_nesting=1).loss(config_enumerate(rows, num_samples=300), lambda: None)
    assert loss == pytest.approx(-math.log(rows_evidence()), abs=0.1)


def test_one_draw_is_a_single_importance_weight():
    torch.manual_seed(0)
    loss = TraceTMC_ELBO(max_plate_nesting=1).loss(
        config_enumerate(rows, num_samples=1), config_enumerate(rows_guide, num_samples=1)
    )
    torch.manual_seed(0)
    drawn = handlers.trace(config_enumerate(rows_guide, num_samples=1)).get_trace()
    log_p = handlers.trace(handlers.replay(rows, trace=drawn)).get_trace().log_prob_sum()
    assert loss == pytest.approx(float(drawn.log_prob_sum() - log_p), abs=1e-4)


def test_all_values_are_summed_exactly():
    @config_enumerate
    def mixed():
        with plate("row", 3):
            z = sample("z", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
            sample("x", dist.Normal(z.float(), 1.0), obs=X)

    exact = TraceEnum_ELBO(max_plate_nesting=1).loss(mixed, lambda: None)
    assert TraceTMC_ELBO(max_plate_nesting=1).loss(mixed, lambda: None) == pytest.approx(exact, abs=1e-5)


def test_masked_rows_count_for_nothing():
    def masked(keep):
        mu = sample("mu", dist.Normal(0.0, 1e-6))
        with plate("row", 3), handlers.mask(mask=keep):
            z = sample("z", dist.Normal(mu, 1e-3))
            sample("x", dist.Normal(z, 1.0), obs=X)

    keep = torch.tensor([True, False, True])
    loss = TraceTMC_ELBO(max_plate_nesting=1).loss(
        config_enumerate(masked, num_samples=5), lambda keep: None, keep
    )
    assert loss == pytest.approx(-float(dist.Normal(0.0, 1.0).log_prob(X[keep]).sum()), abs=0.01)


def test_rows_hidden_under_an_event_count_for_nothing():
    keep = torch.tensor([[True, True], [False, False], [True, True]])

    def model():
        with plate("row", 3):
            z = sample("z", dist.Normal(torch.zeros(3, 2), 1e-3).mask(keep).to_event(1))
            sample("x", dist.Normal(z, 1.0).mask(keep).to_event(1), obs=X[:, None].expand(3, 2))

    loss = TraceTMC_ELBO(max_plate_nesting=1).loss(config_enumerate(model, num_samples=5), lambda: None)
    assert loss == pytest.approx(-2 * float(dist.Normal(0.0, 1.0).log_prob(X[[0, 2]]).sum()), abs=0.05)


def test_score_function_gradient_is_exact_over_all_draws():
    q = torch.tensor([0.3], requires_grad=True)

    def model():
        z = sample("z", dist.Bernoulli(0.6))
        sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.8))

    exact = surrogate = torch.tensor(0.0)
    for bits in itertools.product((0.0, 1.0), repeat=2):
        draws = torch.tensor(bits)

        class Fixed(dist.Bernoulli):
            def sample(self, shape=(), draws=draws):
                return draws.reshape(2, 1) if self.probs.dim() else draws

        def guide(law=Fixed):
            sample("z", law(q.squeeze()), infer={"enumerate": "parallel", "num_samples": 2})

        log_q = dist.Bernoulli(q).log_prob(draws)
        log_p = dist.Bernoulli(0.6).log_prob(draws) + dist.Normal(draws, 1.0).log_prob(torch.tensor(0.8))
        weight = log_q.sum().exp()
        exact = exact - weight * ((log_p - log_q).logsumexp(0) - math.log(2))
        loss = TraceTMC_ELBO(max_plate_nesting=0).differentiable_loss(model, guide)
        surrogate = surrogate + weight.detach() * loss
    torch.testing.assert_close(surrogate, exact)
    torch.testing.assert_close(torch.autograd.grad(surrogate, q)[0], torch.autograd.grad(exact, q)[0])


def test_pathwise_gradient_is_that_of_the_estimate():
    def gradient(step):
        loc = torch.tensor(0.3 + step, dtype=torch.float64, requires_grad=True)

        @config_enumerate(num_samples=3)
        def guide():
            sample("z", dist.Normal(loc, 1.0))

        def model():
            z = sample("z", dist.Normal(0.0, 1.0))
            sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0, dtype=torch.float64))

        torch.manual_seed(3)
        loss = TraceTMC_ELBO(max_plate_nesting=0).differentiable_loss(model, guide)
        return loss.detach(), torch.autograd.grad(loss, loc)[0]

    (low, _), (_, slope), (high, _) = gradient(-1e-5), gradient(0.0), gradient(1e-5)
    torch.testing.assert_close(slope, (high - low) / 2e-5, rtol=1e-5, atol=1e-6)


def test_training_with_it():
    def model():
        z = sample("z", dist.Normal(param("loc", torch.tensor(0.0)), 1.0))
        sample("x", dist.Normal(z, 1.0), obs=torch.tensor(3.0))

    torch.manual_seed(0)
    marked = config_enumerate(model, num_samples=20)
    svi = SVI(
        marked, lambda: None, optim.Adam({"lr": 0.1}), TraceTMC_ELBO(max_plate_nesting=0), compile=False
    )
    losses = [svi.step() for _ in range(100)]
    # The best evidence is that of N(x; x, sqrt 2).
    assert losses[-1] == pytest.approx(0.5 * math.log(4 * math.pi), abs=0.3)


def test_different_numbers_of_draws_error():
    def model():
        a = sample("a", dist.Normal(0.0, 1.0), infer={"enumerate": "parallel", "num_samples": 3})
        sample("b", dist.Normal(a, 1.0), infer={"enumerate": "parallel", "num_samples": 2})

    with pytest.raises(SiteError, match="site 'b': expected num_samples=2 for all sites"):
        TraceTMC_ELBO(max_plate_nesting=0).loss(model, lambda: None)


def test_draws_one_by_one_error():
    with pytest.raises(UnsupportedError, match="default='parallel'"):
        config_enumerate(chain, "sequential", num_samples=2)

    def guide():
        sample("k", dist.Bernoulli(0.5), infer={"enumerate": "sequential"})

    with pytest.raises(UnsupportedError, match="TraceTMC_ELBO: expected site 'k'"):
        TraceTMC_ELBO(max_plate_nesting=0).loss(lambda: sample("k", dist.Bernoulli(0.5)), guide)
