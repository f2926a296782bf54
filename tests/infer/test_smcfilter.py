"""The particle filter beside the Kalman filter, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from brancher import distributions as dist
from brancher import handlers, plate, sample
from brancher.errors import GuideError, InferenceError, InferenceTypeError, SMCFailed
from brancher.infer import SMCFilter

DATA = torch.tensor([0.3, 1.1, 0.7, 2.0, 1.4])
START, DRIFT, NOISE = 1.0, 0.8, 0.6


class Walk:
    def init(self, state):
        state["z"] = sample("z", dist.Normal(0.0, START))

    def step(self, state, y=None):
        state["z"] = sample("z", dist.Normal(state["z"], DRIFT))
        sample("y", dist.Normal(state["z"], NOISE), obs=y)


class Prior:
    def init(self, state):
        sample("z", dist.Normal(0.0, START))

    def step(self, state, y=None):
        sample("z", dist.Normal(state["z"], DRIFT))


class Optimal(Prior):
    """The exact law of the next state given the last one and the data."""

    def step(self, state, y=None):
        precision = 1 / DRIFT**2 + 1 / NOISE**2
        sample("z", dist.Normal((state["z"] / DRIFT**2 + y / NOISE**2) / precision, precision**-0.5))


def kalman():
    mean, variance, evidence = 0.0, START**2, 0.0
    for y in DATA.tolist():
        variance += DRIFT**2
        spread = variance + NOISE**2
        evidence += -0.5 * (math.log(2 * math.pi * spread) + (y - mean) ** 2 / spread)
        gain = variance / spread
        mean, variance = mean + gain * (y - mean), (1 - gain) * variance
    return mean, variance**0.5, evidence


@pytest.mark.parametrize("guide", [Prior(), Optimal()], ids=["prior", "optimal"])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_filter_agrees_with_the_kalman_filter(guide, threshold):
    torch.manual_seed(0)
    smc = SMCFilter(Walk(), guide, 5000, ess_threshold=threshold)
    smc.init()
    for y in DATA:
        smc.step(y)
    mean, sd, evidence = kalman()
    law = smc.get_empirical()["z"]
    # 5000 particles of an effective number over 2000: standard errors below 0.012 and 0.03.
    assert float(law.mean) == pytest.approx(mean, abs=0.05)
    assert float(law.variance.sqrt()) == pytest.approx(sd, abs=0.05)
    assert float(smc.log_evidence) == pytest.approx(evidence, abs=0.12)


def test_evidence_is_unbiased():
    torch.manual_seed(1)
    estimates = []
    for _ in range(200):
        smc = SMCFilter(Walk(), Prior(), 50)
        smc.init()
        for y in DATA:
            smc.step(y)
        estimates.append(smc.log_evidence.exp())
    found = torch.stack(estimates)
    z = (found.mean() - math.exp(kalman()[2])) / (found.std() / 200**0.5)
    assert abs(float(z)) < 4.0


def test_weights_without_resampling_are_those_of_importance_sampling():
    smc = SMCFilter(Walk(), Prior(), 3, ess_threshold=1e-9)
    smc.init()
    smc.step(DATA[0])
    expected = dist.Normal(smc.state["z"], NOISE).log_prob(DATA[0])
    torch.testing.assert_close(smc.state.log_weights, expected.log_softmax(0))
    torch.testing.assert_close(smc.log_evidence, expected.logsumexp(0) - math.log(3))


def test_plates_lie_right_of_the_particles():
    class Rows(Walk):
        def init(self, state):
            with plate("row", 2):
                state["z"] = sample("z", dist.Normal(0.0, 1.0))

    class Guess:
        def init(self, state):
            with plate("row", 2):
                sample("z", dist.Normal(0.5, 1.0))

        step = Prior.step

    smc = SMCFilter(Rows(), Guess(), 4, max_plate_nesting=1, ess_threshold=1e-9)
    smc.init()
    z = smc.state["z"]
    expected = (dist.Normal(0.0, 1.0).log_prob(z) - dist.Normal(0.5, 1.0).log_prob(z)).sum(1)
    torch.testing.assert_close(smc.state.log_weights, expected.log_softmax(0))


def test_systematic_resampling_keeps_whole_shares():
    smc = SMCFilter(Walk(), Prior(), 4)
    smc.init()
    smc.state["z"] = torch.arange(4.0)
    smc.state.log_weights = torch.tensor([0.5, 0.25, 0.25, 0.0]).log()
    smc.state.resample()
    counts = torch.bincount(smc.state["z"].long(), minlength=4)
    assert counts.tolist() == [2, 1, 1, 0] and torch.equal(
        smc.state.log_weights.exp(), torch.full((4,), 0.25)
    )


def test_sites_stay_inside():
    smc = SMCFilter(Walk(), Prior(), 4)
    with handlers.trace() as outer:
        smc.init()
    assert outer.trace.names() == []


def test_failed_step_leaves_the_state():
    class Impossible(Walk):
        def step(self, state, y=None):
            state["z"] = sample("z", dist.Normal(state["z"], 1.0))
            sample("y", dist.Uniform(0.0, 1.0, validate_args=False).mask(True), obs=y)

    smc = SMCFilter(Impossible(), Prior(), 4)
    smc.init()
    before, weights = smc.state["z"], smc.state.log_weights
    with pytest.raises((SMCFailed, ValueError), match="'y'"):
        smc.step(torch.tensor(2.0))
    assert smc.state["z"] is before and smc.state.log_weights is weights and not handlers.stack.current()


def test_guide_that_writes_or_misses_a_site_error():
    class Writes(Prior):
        def step(self, state, y=None):
            state["z"] = sample("z", dist.Normal(state["z"], 1.0))

    class Misses(Prior):
        def step(self, state, y=None):
            pass

    for guide, kind, words in (
        (Writes(), InferenceError, "guide that reads"),
        (Misses(), GuideError, r"\['z'\]"),
    ):
        smc = SMCFilter(Walk(), guide, 4)
        smc.init()
        with pytest.raises(kind, match=words):
            smc.step(DATA[0])


def test_argument_errors():
    with pytest.raises(InferenceError, match="ess_threshold in"):
        SMCFilter(Walk(), Prior(), 4, ess_threshold=0.0)
    with pytest.raises(InferenceError, match="num_particles as an int > 0"):
        SMCFilter(Walk(), Prior(), 0)
    with pytest.raises(
        InferenceTypeError, match=r"guide as an object with methods init and step, got function"
    ):
        SMCFilter(Walk(), lambda state: None, 4)
    smc = SMCFilter(Walk(), Prior(), 4)
    with pytest.raises(InferenceTypeError, match="SMCState 'a': expected a tensor, got float"):
        smc.state["a"] = 1.0
    with pytest.raises(InferenceError, match="first dimension is the 4 particles, got shape"):
        smc.state["a"] = torch.zeros(3)
