"""Series with hidden states against sums over all paths and against the joint normal law."""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
import torch

from brancher import distributions as dist
from brancher import get_param_store, markov, optim, param, sample
from brancher.errors import DistributionError, DistributionTypeError, SiteError
from brancher.handlers import trace
from brancher.infer import SVI, TraceEnum_ELBO, config_enumerate


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def discrete(batch=(), steps=1, states=3, duration=4, events=()):
    def random(*shape):
        return torch.randn(*batch, *shape, dtype=torch.float64)

    observation = dist.Normal(random(steps, states, *events), 0.5).to_event(len(events))
    return dist.DiscreteHMM(random(states), random(steps, states, states), observation, duration=duration)


def by_paths(law, x):
    """Log-density of one series by a sum over all paths, and the law of the last state."""
    states = law.initial_logits.shape[-1]

    def at(part, step):
        return part[min(step, part.shape[0] - 1)]

    totals = torch.full((states,), -math.inf, dtype=torch.float64)
    for path in itertools.product(range(states), repeat=law.duration + 1):
        total = law.initial_logits[path[0]]
        for t in range(law.duration):
            total = total + at(law.transition_logits, t)[path[t], path[t + 1]]
            scores = law.observation_dist.log_prob(x[t])
            total = total + at(scores, t)[path[t + 1]]
        totals[path[-1]] = torch.logaddexp(totals[path[-1]], total)
    return totals.logsumexp(0), totals.log_softmax(0)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("events", [(), (2,)])
def test_discrete_series_sum_over_all_paths(steps, events):
    law = discrete(steps=steps, events=events)
    x = torch.randn(4, *events, dtype=torch.float64)
    density, last = by_paths(law, x)
    assert law.event_shape == (4, *events) and law.batch_shape == ()
    torch.testing.assert_close(law.log_prob(x), density)
    torch.testing.assert_close(law.filter(x).logits, last)


@pytest.mark.parametrize("duration", [1, 2, 5, 8])
def test_discrete_series_of_any_length(duration):
    law = discrete(states=2, duration=duration)
    x = torch.randn(duration, dtype=torch.float64)
    torch.testing.assert_close(law.log_prob(x), by_paths(law, x)[0])


def test_discrete_batches_are_single_laws():
    law = discrete(batch=(2,), steps=4)
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    found = law.log_prob(x)
    assert found.shape == (5, 2) and law.filter(x).logits.shape == (5, 2, 3)
    for row in range(2):
        alone = dist.DiscreteHMM(
            law.initial_logits[row],
            law.transition_logits[row],
            dist.Normal(law.observation_dist.loc[row], 0.5),
        )
        torch.testing.assert_close(alone.log_prob(x[:, row]), found[:, row])


def test_discrete_draws_follow_the_density():
    law = dist.DiscreteHMM(
        torch.tensor([0.3, -0.2]),
        torch.tensor([[1.0, 0.0], [-0.5, 0.5]]),
        dist.Categorical(logits=torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])),
        duration=2,
    )
    draws = law.sample((20_000,))
    cells = torch.tensor(list(itertools.product(range(3), repeat=2)))
    expected = law.log_prob(cells).exp()
    counts = torch.bincount((draws @ torch.tensor([3, 1])).long(), minlength=9) / 20_000
    assert float(expected.sum()) == pytest.approx(1.0, abs=1e-5)
    # Chi-square with 8 degrees: above 40 by chance in 3 of a million runs.
    assert float((20_000 * (counts - expected).square() / expected).sum()) < 40


def test_discrete_series_in_a_model_agree_with_enumeration():
    logits, moves, locs = torch.randn(2), torch.randn(2, 2), torch.tensor([-1.0, 1.0])
    x = torch.randn(4)

    @config_enumerate
    def by_sites():
        z = sample("z", dist.Categorical(logits=logits))
        for t in markov(range(4)):
            z = sample(f"z_{t}", dist.Categorical(logits=moves[z]))
            sample(f"x_{t}", dist.Normal(locs[z], 1.0), obs=x[t])

    law = dist.DiscreteHMM(logits, moves, dist.Normal(locs, 1.0), duration=4)
    assert TraceEnum_ELBO().loss(by_sites, lambda: None) == pytest.approx(-float(law.log_prob(x)), abs=1e-4)


def gaussian(batch=(), steps=1, hidden=2, observed=3, duration=4):
    def random(*shape):
        return torch.randn(*batch, *shape, dtype=torch.float64)

    def law(*shape):
        root = random(*shape, shape[-1])
        return dist.MultivariateNormal(random(*shape), root @ root.mT + torch.eye(shape[-1]))

    return dist.GaussianHMM(
        law(hidden),
        random(steps, hidden, hidden) * 0.7,
        law(steps, hidden),
        random(steps, hidden, observed),
        dist.Normal(random(steps, observed), random(steps, observed).exp()).to_event(1),
        duration=duration,
    )


def by_step(law):
    ranks = (3, 2, 3, 3, 2, 3)
    return zip(*(part.unbind(-rank) for part, rank in zip(law._parts(), ranks, strict=True)), strict=True)


def jointly(law):
    """Mean and covariance of all observations, and of the last state with them."""
    start = law.initial_dist
    means, weights, noises = (
        [start.loc],
        [torch.eye(law.hidden_dim, dtype=torch.float64)],
        [start.covariance_matrix],
    )
    rows, row_means, own = [], [], []
    for a, shift, q, c, offset, r in by_step(law):
        weights = [w @ a for w in weights] + [torch.eye(law.hidden_dim, dtype=torch.float64)]
        means, noises = [*means, shift], [*noises, q]
        mean = sum(m @ w for m, w in zip(means, weights, strict=True))
        rows.append([w @ c for w in weights])
        row_means.append(mean @ c + offset)
        own.append(r)
    total = torch.cat(row_means)
    blocks = []
    for s, left in enumerate(rows):
        line = [
            sum(u.mT @ n @ v for u, n, v in zip(left, noises, right, strict=False))
            + (own[s] if s == t else 0.0)
            for t, right in enumerate(rows)
        ]
        blocks.append(torch.cat(line, -1))
    cross = torch.cat(
        [sum(w.mT @ n @ v for w, n, v in zip(weights, noises, r, strict=False)) for r in rows], -1
    )
    spread = sum(w.mT @ n @ w for w, n in zip(weights, noises, strict=True))
    return total, torch.cat(blocks), mean, cross, spread


@pytest.mark.parametrize("steps", [1, 4])
def test_gaussian_series_are_a_joint_normal_law(steps):
    law = gaussian(steps=steps)
    x = torch.randn(4, 3, dtype=torch.float64)
    mean, covariance, state, cross, spread = jointly(law)
    expected = dist.MultivariateNormal(mean, covariance).log_prob(x.reshape(-1))
    torch.testing.assert_close(law.log_prob(x), expected)
    gain = torch.linalg.solve(covariance, cross.mT).mT
    last = law.filter(x)
    torch.testing.assert_close(last.loc, state + gain @ (x.reshape(-1) - mean))
    torch.testing.assert_close(last.covariance_matrix, spread - gain @ cross.mT)


@pytest.mark.parametrize("duration", [1, 2, 7])
def test_gaussian_series_of_any_length(duration):
    law = gaussian(duration=duration)
    x = torch.randn(duration, 3, dtype=torch.float64)
    mean, covariance, *_ = jointly(law)
    torch.testing.assert_close(
        law.log_prob(x), dist.MultivariateNormal(mean, covariance).log_prob(x.reshape(-1))
    )


def test_gaussian_series_seen_almost_exactly_stay_finite():
    noise = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    x = torch.randn(300, 1).cumsum(0)
    exact = dist.Normal(0.0, 1.0).log_prob(x.diff(dim=0)).sum() + dist.Normal(0.0, 2**0.5).log_prob(x[0, 0])
    law = dist.GaussianHMM(
        noise, torch.eye(1), noise, torch.eye(1), dist.Normal(torch.zeros(1), 1e-3).to_event(1), duration=300
    )
    assert float(law.log_prob(x)) == pytest.approx(float(exact), abs=0.05)


def test_gaussian_draws_have_the_joint_moments():
    law = gaussian(duration=3)
    draws = law.rsample((20_000,)).reshape(20_000, -1)
    mean, covariance, *_ = jointly(law)
    error = (draws.mean(0) - mean) / (covariance.diagonal() / 20_000).sqrt()
    assert float(error.abs().max()) < 5.0
    torch.testing.assert_close(draws.T.cov(), covariance, rtol=0.1, atol=0.1 * float(covariance.abs().max()))


def test_gaussian_batches_are_single_laws():
    law = gaussian(batch=(2,), steps=4)
    x = torch.randn(5, 2, 4, 3, dtype=torch.float64)
    assert law.batch_shape == (2,) and law.log_prob(x).shape == (5, 2) and law.rsample((5,)).shape == x.shape
    alone = dist.GaussianHMM(
        dist.MultivariateNormal(law.initial_dist.loc[1], law.initial_dist.covariance_matrix[1]),
        law.transition_matrix[1],
        dist.MultivariateNormal(law.transition_dist.loc[1], law.transition_dist.covariance_matrix[1]),
        law.observation_matrix[1],
        dist.Normal(law.observation_dist.base_dist.loc[1], law.observation_dist.base_dist.scale[1]).to_event(
            1
        ),
    )
    torch.testing.assert_close(law.log_prob(x)[:, 1], alone.log_prob(x[:, 1]))


@pytest.mark.parametrize("make", [discrete, gaussian])
def test_laws_of_series_expand_and_pickle(make):
    law = make()
    wide = law.expand([5, 1]).expand([5, 2])
    x = law.sample()
    assert wide.batch_shape == (5, 2) and wide.event_shape == law.event_shape
    assert wide.sample((3,)).shape == (3, 5, 2, *law.event_shape)
    torch.testing.assert_close(wide.log_prob(x), law.log_prob(x).expand(5, 2))
    assert torch.equal(pickle.loads(pickle.dumps(law)).log_prob(x), law.log_prob(x))
    masked = law.mask(torch.tensor([True, False])).log_prob(x)
    assert masked.shape == (2,) and masked[1] == 0.0


def test_parameters_of_a_series_learn():
    x = torch.tensor([[0.0], [1.1], [1.9], [3.2], [4.0], [5.1]])

    def model():
        noise = param("noise", torch.tensor(1.0), constraint=dist.constraints.positive)
        drift = param("drift", torch.tensor(0.0))
        law = dist.GaussianHMM(
            dist.Normal(torch.zeros(1) - 1.0, 0.1).to_event(1),
            torch.eye(1),
            dist.Normal(drift.expand(1), 0.1).to_event(1),
            torch.eye(1),
            dist.Normal(torch.zeros(1), noise).to_event(1),
            duration=6,
        )
        sample("x", law, obs=x)

    svi = SVI(model, lambda: None, optim.Adam({"lr": 0.1}), compile=False)
    for _ in range(60):
        svi.step()
    assert float(get_param_store()["drift"].detach()) == pytest.approx(1.0, abs=0.1)


def test_argument_errors():
    noise, eye = dist.Normal(torch.zeros(2), 1.0).to_event(1), torch.eye(2)
    with pytest.raises(
        DistributionError, match="duration as an int > 0 that is the number of steps of its parts, 4"
    ):
        gaussian(steps=4, duration=3)
    with pytest.raises(DistributionError, match=r"observation_matrix \(2, 2\).*got \(2, 2\), \(3, 2\) and 2"):
        dist.GaussianHMM(noise, eye, noise, torch.zeros(3, 2), noise, duration=3)
    with pytest.raises(DistributionTypeError, match="transition_dist as a MultivariateNormal or Normal"):
        dist.GaussianHMM(noise, eye, dist.Normal(torch.zeros(2), 1.0), eye, noise, duration=3)
    with pytest.raises(DistributionError, match=r"transition_logits of shape \(\.\.\., 2, 2\)"):
        dist.DiscreteHMM(torch.zeros(2), torch.zeros(3, 3), dist.Normal(torch.zeros(2), 1.0), duration=3)
    with pytest.raises(DistributionTypeError, match="observation_dist as a distribution, got Tensor"):
        dist.DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), torch.zeros(2), duration=3)
    with pytest.raises(DistributionError, match="shape"):
        gaussian().log_prob(torch.zeros(5, 3))


@pytest.mark.parametrize("make", [discrete, gaussian])
def test_without_a_duration_series_of_every_length_are_scored(make):
    torch.manual_seed(1)
    law = make(duration=None)
    for steps in (1, 5):
        torch.manual_seed(1)
        fixed = make(duration=steps)
        x = fixed.sample((2,))
        torch.testing.assert_close(law.log_prob(x), fixed.log_prob(x))
        torch.testing.assert_close(law.expand((3, 2)).log_prob(x), fixed.expand((3, 2)).log_prob(x))
        torch.testing.assert_close(law.filter(x[0]).mean, fixed.filter(x[0]).mean, equal_nan=True)


def test_without_a_duration_a_series_is_observed():
    law = gaussian(duration=None)
    x = gaussian(duration=5).sample()
    record = trace(lambda: sample("x", law, obs=x)).get_trace()
    torch.testing.assert_close(record.log_prob_sum(), law.log_prob(x))
    with pytest.raises(SiteError, match=r"'x': expected obs of shape \[5, 3\]"):
        sample("x", law, obs=x[:, :2])
