"""Gradients of the ELBO against exact ones, in every setting that changes how terms are added."""

from __future__ import annotations

import itertools
import math
from contextlib import nullcontext

import pytest
import torch

from brancher import ParamStore, factor, handlers, param, plate, sample
from brancher import distributions as dist
from brancher.infer import Trace_ELBO, TraceMeanField_ELBO

ROWS = 4
DATA = torch.tensor([1.0, -0.5, 2.0, 0.3])
KEEP = torch.tensor([True, False, True, True])
LOC, LOG_SCALE = torch.tensor([0.5, -0.2, 0.1, 0.8]), torch.tensor([-0.3, 0.1, -0.8, 0.2])


class ScoreNormal(dist.Normal):
    """A normal law whose draws carry no pathwise gradient."""

    has_rsample = False


def setting(kind):
    return {
        "mask": handlers.mask(mask=KEEP),
        "scale": handlers.scale(scale=2.5),
    }.get(kind, nullcontext())


def rows(kind):
    return plate("row", ROWS, subsample_size=2 if kind == "subsample" else None)


def make(kind, family):
    def model():
        with setting(kind), rows(kind) as index:
            z = sample("z", dist.Normal(0.0, 1.0))
            sample("y", dist.Normal(z, 1.0), obs=DATA[index])

    def guide():
        loc_of = lambda: param("loc", LOC, event_dim=0)  # noqa: E731
        log_scale_of = lambda: param("log_scale", LOG_SCALE, event_dim=0)  # noqa: E731
        with setting(kind), rows(kind):
            sample("z", family(loc_of(), log_scale_of().exp()))

    return model, guide


def exact_gradient(kind):
    """Gradient of E[log q - log p(z) - log p(y | z)] in (loc, log_scale), row by row."""
    weight = {"mask": KEEP.float(), "scale": torch.full((ROWS,), 2.5)}.get(kind, torch.ones(ROWS))
    by_loc = weight * (LOC - (DATA - LOC))
    by_log_scale = weight * (2 * (2 * LOG_SCALE).exp() - 1.0)
    return torch.cat([by_loc, by_log_scale])


def replicate(elbo, model, guide, repeats):
    grads = []
    with ParamStore() as store:
        for _ in range(repeats):
            loss = elbo.differentiable_loss(model, guide)
            gradient = torch.autograd.grad(loss, list(store.unconstrained().values()))
            grads.append(torch.cat([g.reshape(-1) for g in gradient]))
    return torch.stack(grads).double()


# 200 means of 1000 replicates are 2e5 replicates; |z| < 4.5 in 8 coordinates and 14 cases has a
# false-alarm rate of 112 * 6.8e-6 = 8e-4 a seed, and the seed is fixed.
@pytest.mark.parametrize("kind", ["plain", "mask", "scale"])
@pytest.mark.parametrize("family", [dist.Normal, ScoreNormal], ids=["pathwise", "score"])
@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_gradient_is_unbiased(kind, family, loss):
    model, guide = make(kind, family)
    grads = replicate(loss(num_particles=1000, vectorize_particles=True), model, guide, 200)
    assert_unbiased(grads, exact_gradient(kind))


# Every run draws its rows, so replicates are runs; 40 particles average out the rest. 600 runs see a
# bias of a fifth of the gradient's spread over rows, 5000 one of a fifteenth.
@pytest.mark.parametrize("repeats", [600, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", [dist.Normal, ScoreNormal], ids=["pathwise", "score"])
def test_gradient_is_unbiased_in_a_subsampled_plate(family, repeats):
    model, guide = make("subsample", family)
    elbo = Trace_ELBO(num_particles=40, vectorize_particles=True)
    assert_unbiased(replicate(elbo, model, guide, repeats), exact_gradient("subsample"))


def assert_unbiased(grads, expected):
    error = grads.mean(0) - expected.double()
    standard_error = grads.std(0) / math.sqrt(len(grads))
    # A coordinate without noise (closed-form KL, masked rows) must be right to rounding.
    z = error / standard_error.clamp(min=1e-6)
    assert z.abs().max() < 4.5, z


def test_gradient_of_a_discrete_site_against_enumeration():
    logits = torch.tensor([0.3, -0.5, 0.1])
    prior = dist.Categorical(torch.tensor([0.2, 0.5, 0.3]))
    likelihood = torch.tensor([-1.0, -3.0, -0.2])

    def model():
        k = sample("k", prior)
        factor("y", likelihood[k])

    def guide():
        sample("k", dist.Categorical(logits=param("logits", logits)))

    leaf = logits.clone().requires_grad_()
    log_q = leaf.log_softmax(0)
    exact = torch.autograd.grad((log_q.exp() * (log_q - prior.logits - likelihood)).sum(), leaf)[0]
    grads = replicate(Trace_ELBO(num_particles=1000, vectorize_particles=True), model, guide, 200)
    assert_unbiased(grads, exact)


def test_baseline_lowers_the_variance():
    def model():
        sample("z", dist.Normal(0.0, 1.0))
        sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(10.0))  # a large constant in the signal

    def guide():
        sample("z", ScoreNormal(param("loc", torch.tensor(0.3)), 1.0))

    def spread(decay):
        elbo = Trace_ELBO(num_particles=10, vectorize_particles=True, baseline_decay=decay)
        return replicate(elbo, model, guide, 300)[10:].std()

    assert spread(0.9) < 0.2 * spread(None)


def test_rao_blackwell_keeps_rows_apart():
    def model():
        with plate("row", 50):
            z = sample("z", dist.Normal(0.0, 1.0))
            sample("y", dist.Normal(z, 1.0), obs=torch.zeros(50))

    def guide():
        with plate("row", 50):
            sample("z", ScoreNormal(param("loc", torch.zeros(50), event_dim=0), 1.0))

    grads = replicate(
        Trace_ELBO(num_particles=100, vectorize_particles=True, baseline_decay=None), model, guide, 50
    )
    # One row's signal has a standard deviation of about 2; the noise of 50 rows would make it 14.
    assert grads.std(0).mean() < 0.6


def test_sequential_and_vectorized_particles_agree_in_expectation():
    model, guide = make("plain", dist.Normal)
    for vectorized in (False, True):
        grads = replicate(Trace_ELBO(num_particles=20, vectorize_particles=vectorized), model, guide, 40)
        assert_unbiased(grads, exact_gradient("plain"))


@pytest.mark.parametrize("sizes", [(2, 2), (2, 3)])
def test_rows_of_two_plates_side_by_side_are_not_taken_for_one(sizes):
    # The second plate's rows depend on all rows of the first. Summed over all values that a guide can draw,
    # weighted by its probability, the estimator is the exact gradient.
    first, second = sizes

    def program(probs_x, probs_y):
        with plate("a", first):
            x = sample("x", dist.Bernoulli(probs_x))
        with plate("b", second):
            sample("y", dist.Bernoulli(probs_y(x)))

    def model():
        program(torch.tensor(0.4), lambda x: 0.2 + 0.6 * x.mean())

    q = torch.linspace(0.2, 0.7, first).requires_grad_()
    exact = surrogate = torch.tensor(0.0)
    for bits in itertools.product((0.0, 1.0), repeat=first + second):
        x, y = torch.tensor(bits).split([first, second])

        def guide(x=x, y=y):
            values = handlers.Trace()
            values.add_node("x", type="sample", value=x)
            values.add_node("y", type="sample", value=y)
            handlers.replay(lambda: program(q, lambda x: torch.tensor(0.3)), trace=values)()

        log_q = dist.Bernoulli(q).log_prob(x).sum() + dist.Bernoulli(0.3).log_prob(y).sum()
        log_p = dist.Bernoulli(0.4).log_prob(x).sum() + dist.Bernoulli(0.2 + 0.6 * x.mean()).log_prob(y).sum()
        exact = exact - log_q.exp() * (log_p - log_q)
        loss = Trace_ELBO(baseline_decay=None).differentiable_loss(model, guide)
        surrogate = surrogate + log_q.exp().detach() * loss
    expected = torch.autograd.grad(exact, q)[0]
    torch.testing.assert_close(torch.autograd.grad(surrogate, q)[0], expected, rtol=1e-4, atol=1e-5)
